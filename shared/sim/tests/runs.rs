//! A fixed set of seeds, on every build: they hold, they meet what they are meant to meet, and they are reproducible.

use sim::coverage::Coverage;
use sim::run::run;
use sim::scenario::Options;

/// Runs these seeds; returns what they met.
fn all_hold(seeds: std::ops::Range<u64>, options: &Options) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in seeds {
        let report = run(seed, options);
        if let Some(violation) = report.violation {
            panic!(
                "seed {seed}: {}\n{}\nagain: cargo run -p sim --release -- --seeds 1 --from {seed}{}",
                violation.invariant,
                violation.detail,
                if options.storm { " --storm" } else { "" }
            );
        }
        coverage.add(&report.coverage);
    }
    coverage
}

#[test]
fn sixty_seeds_hold_and_meet_everything() {
    let coverage = all_hold(0..60, &Options::default());
    let missing = coverage.missing();
    assert!(missing.is_empty(), "never met: {missing:?}\n{coverage}");
}

#[test]
fn storms_of_elections_hold() {
    let options = Options {
        storm: true,
        ..Options::default()
    };
    let coverage = all_hold(0..20, &options);
    assert!(coverage.count("entry truncated") > 0, "{coverage}");
    assert!(coverage.count("adopted suffix") > 0, "{coverage}");
}

#[test]
fn one_seed_gives_the_same_bytes_twice_and_another_gives_others() {
    let options = Options {
        keep_trace: true,
        ..Options::default()
    };
    for seed in 0..4 {
        let (first, second) = (run(seed, &options), run(seed, &options));
        assert!(first.events > 1_000);
        assert_eq!(first.digest, second.digest);
        assert!(first.trace == second.trace, "seed {seed} gives two traces");
        assert_eq!(first.coverage, second.coverage);
        assert_ne!(first.digest, run(seed + 100, &options).digest);
    }
}
