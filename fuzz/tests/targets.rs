//! Every target for a moment, from a seed that is always the same; and every input that is kept. How many
//! inputs is fixed too: what a slow machine passes, a fast one does.

use std::collections::BTreeSet;
use std::time::Duration;

use fuzz::{TARGETS, Target, corpus, random};

/// How many inputs are tried in a test.
const INPUTS: u64 = 3000;
/// Of those that are a minute in the life of a fleet each.
const STORIES: u64 = 200;
/// The longest that an input may take: far more than any does.
const SLOWEST: Duration = Duration::from_secs(5);

macro_rules! each {
    ($($test:ident $name:literal),+ $(,)?) => {
        $(
            #[test]
            fn $test() {
                let inputs = if $name == "fleet" { STORIES } else { INPUTS };
                let target = Target::named($name).unwrap();
                let ran = random::run(target, 7, Duration::MAX, inputs, &mut |_| {});
                assert!(corpus::inputs($name).len() < inputs as usize);
                assert!(ran.inputs == inputs && ran.slowest < SLOWEST, "{ran:?}");
            }
        )+

        #[test]
        fn each_target_is_tested_and_has_a_corpus() {
            let tested = BTreeSet::from([$($name),+]);
            let there: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(tested, there);
            for target in TARGETS {
                assert!(!corpus::inputs(target.name).is_empty(), "{}", target.name);
            }
        }
    };
}

each! {
    key_text "key-text",
    filter_configuration "filter-configuration",
    fleet "fleet",
    gate_answers "gate-answers",
    limits "limits",
    slots "slots",
    paths "paths",
    addresses "addresses",
    networks "networks",
    header_pairs "header-pairs",
    messages "messages",
    cursors "cursors",
    urls "urls",
    settings "settings",
    backup "backup",
    edge_calls "edge-calls",
    admin_calls "admin-calls",
}
