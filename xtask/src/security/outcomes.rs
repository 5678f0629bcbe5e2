//! How each test went, as the test runner told it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// How a test went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// It is there, and was not asked for.
    Ignored,
}

/// How the tests of all steps went when these were last run.
#[derive(Debug, Default)]
pub(super) struct Outcomes(BTreeMap<String, Outcome>);

/// Runs tests, and keeps how each went in the target folder, a file for each step.
pub(crate) struct Recorder {
    file: PathBuf,
    lines: Vec<String>,
}

fn folder() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("test-outcomes"))
}

impl Recorder {
    /// Forgets the step's last run.
    ///
    /// # Errors
    /// When the target folder cannot be written to.
    pub(crate) fn start(step: &str) -> Result<Self> {
        let folder = folder()?;
        fs::create_dir_all(&folder).context("cannot write to the target folder")?;
        let file = folder.join(step);
        let recorder = Self { file, lines: Vec::new() };
        recorder.keep()?;
        Ok(recorder)
    }

    /// Runs a command that runs tests; its output is shown as it comes.
    ///
    /// # Errors
    /// When the command fails; what it told is kept all the same.
    pub(crate) fn run(&mut self, command: Command) -> Result<()> {
        let (result, told) = process::run_recorded(command)?;
        self.lines.extend(told.into_iter().filter(|line| parse(line).is_some()));
        self.keep()?;
        result
    }

    fn keep(&self) -> Result<()> {
        fs::write(&self.file, self.lines.join("\n"))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

impl Outcomes {
    pub(super) fn read() -> Result<Self> {
        let mut outcomes = Self::default();
        let folder = folder()?;
        let files = fs::read_dir(&folder).ok().into_iter().flatten();
        for file in files {
            let text = fs::read_to_string(file?.path())?;
            text.lines().for_each(|line| outcomes.note(line));
        }
        if outcomes.0.is_empty() {
            bail!("no tests were run yet: `cargo xtask test native e2e`");
        }
        Ok(outcomes)
    }

    /// Takes in a line. Of several tests of one name the worst outcome counts.
    pub(super) fn note(&mut self, line: &str) {
        let Some((name, outcome)) = parse(line) else { return };
        let known = self.0.entry(name.to_owned()).or_insert(outcome);
        if *known == Outcome::Passed {
            *known = outcome;
        }
    }

    /// How the tests of this name went, in whatever modules they are: the worst of them. None: there
    /// was none.
    pub(super) fn of(&self, test: &str) -> Option<Outcome> {
        let is_it = |name: &str| {
            name.strip_suffix(test).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
        };
        let found = self.0.iter().filter(|(name, _)| is_it(name)).map(|(_, outcome)| *outcome);
        found.reduce(|worst, one| if worst == Outcome::Passed { one } else { worst })
    }
}

/// A line of `cargo test` (`test a::b ... ok`) or of nextest (`PASS [ 0.1s] package::binary a::b`).
fn parse(line: &str) -> Option<(&str, Outcome)> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("test ") {
        let (name, outcome) = rest.split_once(" ... ")?;
        let outcome = match outcome.split([' ', ',']).next()? {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed,
            "ignored" => Outcome::Ignored,
            _ => return None,
        };
        return Some((name.trim_end_matches(" - should panic"), outcome));
    }
    let (word, rest) = line.split_once(' ')?;
    let outcome = match word {
        "PASS" => Outcome::Passed,
        "FAIL" | "TIMEOUT" | "ABORT" => Outcome::Failed,
        _ => return None,
    };
    let (_time, names) = rest.split_once(']')?;
    Some((names.split(' ').next_back()?, outcome))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Outcomes};

    fn outcomes(lines: &[&str]) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for line in lines {
            outcomes.note(line);
        }
        outcomes
    }

    #[test]
    fn both_runners_are_understood() {
        let it = outcomes(&[
            "test keys::tests::one ... ok",
            "test two ... FAILED",
            "test three ... ignored, takes an hour",
            "test four - should panic ... ok",
            "test five has been running for over 60 seconds",
            "        PASS [   0.012s] (3/9) tests::audit six",
            "        FAIL [   1.250s] control-plane store::seven",
            "test result: ok. 3 passed",
        ]);
        for (test, outcome) in [
            ("one", Some(Outcome::Passed)),
            ("two", Some(Outcome::Failed)),
            ("three", Some(Outcome::Ignored)),
            ("four", Some(Outcome::Passed)),
            ("five", None),
            ("six", Some(Outcome::Passed)),
            ("seven", Some(Outcome::Failed)),
            ("result: ok. 3 passed", None),
        ] {
            assert_eq!(it.of(test), outcome, "{test}");
        }
    }

    #[test]
    fn of_tests_with_one_name_the_worst_counts() {
        let it = outcomes(&[
            "test store::sqlite::tests::a_batch ... ok",
            "test store::postgres::tests::a_batch ... FAILED",
            "test another_a_batch ... ok",
        ]);
        assert_eq!(it.of("a_batch"), Some(Outcome::Failed));
        assert_eq!(it.of("batch"), None);
    }
}
