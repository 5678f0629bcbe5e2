//! The report.

use std::fmt::Write;

use super::claims::{Claim, Claims};
use super::outcomes::{Outcome, Outcomes};
use super::sources::Sources;

const HEAD: &str = "\
<!-- Made by `cargo xtask codegen` from docs/security-claims.yaml. Change it there. -->

# Security report

What Keygate claims about its security, and the tests that hold each claim. `cargo xtask test` runs them all, \
fails when one of them is missing or does not pass, and writes this report with the outcomes to \
`target/security-report.md`. The labels refer to the OWASP Application Security Verification Standard 5.0 \
(ASVS) and the OWASP API Security Top 10 of 2023 (API1 to API10).

";

/// The page; with outcomes, when there are any.
pub(super) fn page(claims: &Claims, sources: &Sources, outcomes: Option<&Outcomes>) -> String {
    let mut page = HEAD.to_owned();
    for topic in &claims.0 {
        let _ = writeln!(page, "## {}\n", topic.topic);
        for claim in &topic.claims {
            write_claim(&mut page, claim, sources, outcomes);
        }
        page.push('\n');
    }
    let (claimed, tests) = (claims.all().count(), claims.tests().count());
    let _ = writeln!(page, "{claimed} claims, held by {tests} tests.");
    page
}

fn write_claim(page: &mut String, claim: &Claim, sources: &Sources, outcomes: Option<&Outcomes>) {
    let standards = match claim.standards.as_slice() {
        [] => String::new(),
        some => format!(" *({})*", some.join(", ")),
    };
    let held = outcomes.map_or("", |it| if is_held(claim, it) { "**held** " } else { "**OPEN** " });
    let _ = writeln!(page, "- {held}{}{standards}", claim.text);
    for test in &claim.tests {
        let file = sources.place(test).unwrap_or("nowhere");
        let outcome = outcomes.map_or("", |it| word(it.of(test)));
        let _ = writeln!(page, "  - `{test}` in [{file}](../{file}){outcome}");
    }
}

fn word(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Passed) => ": passed",
        Some(Outcome::Failed) => ": FAILED",
        Some(Outcome::Ignored) => ": was not asked for",
        None => ": was not run",
    }
}

fn is_held(claim: &Claim, outcomes: &Outcomes) -> bool {
    claim.tests.iter().all(|test| outcomes.of(test) == Some(Outcome::Passed))
}

/// The claims that are not held, each with the tests that do not hold it.
pub(super) fn not_held(claims: &Claims, outcomes: &Outcomes) -> Vec<String> {
    let open = claims.all().filter(|claim| !is_held(claim, outcomes));
    open.map(|claim| {
        let not_passed = claim.tests.iter().filter(|it| outcomes.of(it) != Some(Outcome::Passed));
        let tests: Vec<_> =
            not_passed.map(|test| format!("{test}{}", word(outcomes.of(test)))).collect();
        format!("- {} ({})", claim.text, tests.join(", "))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{Claims, Outcomes, not_held};

    #[test]
    fn a_claim_is_held_only_when_each_of_its_tests_has_passed() {
        let text = "- topic: a\n  claims:\n  - claim: All is well.\n    tests: [one, two]\n";
        let claims = Claims::parse(text).unwrap();
        let open = |lines: &[&str]| {
            let mut outcomes = Outcomes::default();
            for line in lines {
                outcomes.note(line);
            }
            not_held(&claims, &outcomes)
        };
        assert_eq!(open(&["test one ... ok", "test two ... ok"]).len(), 0);
        for lines in [
            &["test one ... ok"][..],
            &["test one ... ok", "test two ... FAILED"],
            &["test one ... ok", "test two ... ignored"],
        ] {
            let open = open(lines);
            assert!(open.len() == 1 && open[0].contains("two"), "{open:?}");
        }
    }
}
