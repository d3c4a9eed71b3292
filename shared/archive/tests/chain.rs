//! The chain of segments against a list of positions.

use archive::{Chain, Digest, SegmentName};
use proptest::prelude::*;

fn name(first: u64, last: u64) -> SegmentName {
    SegmentName::new(first, last, &Digest::of(&[first as u8, last as u8]))
}

fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
    proptest::collection::vec(
        (1u64..40, 0u64..12).prop_map(|(first, more)| (first, first + more)),
        0..14,
    )
}

proptest! {
    #[test]
    fn any_segments_reach_as_far_as_their_positions_do(ranges in ranges(), after in 0u64..45, to in 0u64..60) {
        let chain: Chain = ranges.iter().map(|(first, last)| name(*first, *last)).collect();
        let held = |position: u64| ranges.iter().any(|(first, last)| (*first..=*last).contains(&position));
        let reach = (after + 1..).take_while(|position| held(*position)).last().unwrap_or(after);
        prop_assert_eq!(chain.reach(after), reach);
        let path = chain.path(after);
        let mut next = after + 1;
        for step in &path {
            prop_assert!(step.first <= next && step.last >= next);
            prop_assert_eq!(chain.covering(next).map(|c| c.last), Some(step.last), "the one that reaches farthest");
            next = step.last + 1;
        }
        prop_assert_eq!(next, reach + 1);
        prop_assert_eq!(chain.covering(reach + 1), None);
        let mut missing: Vec<u64> = Vec::new();
        for hole in chain.holes(after, to) {
            prop_assert!(!hole.is_empty());
            missing.extend(hole);
        }
        let expected: Vec<u64> = (after + 1..=to).filter(|position| !held(*position)).collect();
        prop_assert_eq!(missing, expected);
    }
}

#[test]
fn two_contents_of_one_range_are_told() {
    let other = SegmentName::new(4, 6, &Digest::of(b"other"));
    let mut chain: Chain = [name(1, 3), name(4, 6), name(4, 7)].into_iter().collect();
    assert!(chain.contradictions().is_empty());
    chain.insert(other.clone());
    assert_eq!(chain.contradictions().len(), 1);
    assert!(chain.remove(&other) && !chain.remove(&other));
    assert!(chain.contradictions().is_empty());
    assert_eq!((chain.len(), chain.last(), chain.is_empty()), (3, 7, false));
}
