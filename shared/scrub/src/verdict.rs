//! Who is wrong when copies of a partition differ: the one that stands alone against two that agree, of which the archive's reference is
//! as good as a replica, and decides where replicas are two.

/// One copy that was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The replica with this number in the list that was compared.
    Replica(usize),
    /// What was built from the archive.
    Reference,
}

/// What a comparison says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All are equal.
    Clean,
    /// These stand against a majority, or against the reference and another replica.
    Wrong(Vec<Side>),
    /// There is a difference, and no majority: nobody may be condemned.
    Undecided,
}

/// The verdict over copies, told apart by the class that each is in (equal copies are in one class): the replicas' in order, and the
/// reference's if there is one.
pub fn verdict(replicas: &[usize], reference: Option<usize>) -> Verdict {
    let sides = replicas.iter().enumerate();
    let sides: Vec<(Side, usize)> = sides
        .map(|(number, class)| (Side::Replica(number), *class))
        .chain(reference.map(|class| (Side::Reference, class)))
        .collect();
    if sides.windows(2).all(|two| two[0].1 == two[1].1) {
        return Verdict::Clean;
    }
    let votes = |class: usize| sides.iter().filter(|(_, c)| *c == class).count();
    let right = sides.iter().map(|(_, class)| *class).find(|class| {
        let of = votes(*class);
        // Two of four against two others decide nothing, unless the reference is among them and the others differ from each other, too.
        let others = sides.iter().map(|(_, c)| *c).filter(|c| c != class);
        of >= 2 && others.map(votes).all(|votes| votes < of)
    });
    let Some(right) = right else {
        return Verdict::Undecided;
    };
    let wrong = sides.iter().filter(|(_, class)| *class != right);
    Verdict::Wrong(wrong.map(|(side, _)| *side).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_copies_are_clean() {
        assert_eq!(verdict(&[0, 0, 0], Some(0)), Verdict::Clean);
        assert_eq!(verdict(&[0, 0], None), Verdict::Clean);
        assert_eq!(verdict(&[0], None), Verdict::Clean);
    }

    #[test]
    fn two_against_one_names_the_one() {
        assert_eq!(
            verdict(&[0, 1, 0], None),
            Verdict::Wrong(vec![Side::Replica(1)])
        );
        assert_eq!(
            verdict(&[0, 0, 0], Some(1)),
            Verdict::Wrong(vec![Side::Reference])
        );
        assert_eq!(
            verdict(&[0, 1, 2], Some(2)),
            Verdict::Wrong(vec![Side::Replica(0), Side::Replica(1)])
        );
    }

    #[test]
    fn the_archive_decides_between_two_and_nobody_between_two_and_two() {
        assert_eq!(
            verdict(&[0, 1], Some(1)),
            Verdict::Wrong(vec![Side::Replica(0)])
        );
        assert_eq!(verdict(&[0, 1], None), Verdict::Undecided);
        assert_eq!(verdict(&[0, 1, 2], None), Verdict::Undecided);
        assert_eq!(verdict(&[0, 0, 1], Some(1)), Verdict::Undecided);
    }
}
