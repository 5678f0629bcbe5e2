//! `keygate keys import`: keys that were made elsewhere, a JSON object a line.
//!
//! Each line is taken whole or not at all, and one that fails does not keep the next from being
//! tried. Keys come from a file or from standard input: a command line can be read by everyone on
//! the machine.

use jiff::Timestamp;
use serde::Serialize;
use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal, Read},
    path::PathBuf,
};
use zeroize::Zeroizing;

use crate::cli::{
    BadArgument, offline,
    output::{answer, answer_json},
    table,
};
use crate::{
    audit::Actor,
    config::Settings,
    http::wording,
    keys::{
        import::{FilterPolicyView, ForeignKey, ImportError, ImportRequest},
        issue::Issuer,
        object::Object,
    },
};

/// As long as a body of the API may be.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// After how many lines someone who watches is told how far it is.
const TELL_EVERY: usize = 100;

#[derive(clap::Args)]
pub(in crate::cli) struct Import {
    /// File with a JSON object a line: `api_key` and the fields of `POST …/api-keys/import`
    /// [default: standard input]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only say what would come of it; nothing is stored
    #[arg(long)]
    dry_run: bool,
    /// Keys that are known already are no failures: for going on where an import was broken off
    #[arg(long)]
    skip_known: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Some lines were not imported.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} keys were not imported")]
struct SomeFailed {
    failed: usize,
    all: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Imported,
    /// It would have been.
    Accepted,
    Known,
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Accepted => "accepted",
            Self::Known => "known",
            Self::Failed => "failed",
        }
    }
}

/// What came of a line. Nothing in it tells the key.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "programs read `line`")]
struct Line {
    line: usize,
    outcome: Outcome,
    key_id: Option<String>,
    name: Option<String>,
    /// What is wrong with it, or what is to be done.
    notes: Vec<String>,
    /// What filters need for it to pass.
    filter_policy: Option<FilterPolicyView>,
}

impl Line {
    fn failed(line: usize, name: Option<String>, notes: Vec<String>) -> Self {
        let outcome = Outcome::Failed;
        Self { line, outcome, key_id: None, name, notes, filter_policy: None }
    }

    fn columns(&self) -> [String; 5] {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut notes = self.notes.join("; ");
        if let Some(policy) =
            self.filter_policy.as_ref().and_then(|it| serde_json::to_string(it).ok())
        {
            notes = format!("filters need policy {policy}");
        }
        [
            self.line.to_string(),
            self.outcome.as_str().to_owned(),
            or_dash(&self.key_id),
            or_dash(&self.name),
            notes,
        ]
    }
}

pub(super) async fn run(import: &Import, settings: &Settings) -> anyhow::Result<()> {
    let mut input = open(import)?;
    let (config, store) = offline::open(settings).await?;
    let issuer = offline::issuer(&config, &store).await?;
    let watched = std::io::stderr().is_terminal();
    let mut lines = Vec::new();
    let mut number = 0;
    while let Some(text) = next_line(&mut input)? {
        number += 1;
        if text.trim_ascii().is_empty() {
            continue;
        }
        lines.push(take(&issuer, import, number, &text).await?);
        if watched && number % TELL_EVERY == 0 {
            eprintln!("{number} lines");
        }
    }
    store.close().await;
    report(import, &lines)
}

fn open(import: &Import) -> anyhow::Result<Box<dyn BufRead>> {
    let Some(file) = &import.file else {
        return Ok(Box::new(std::io::stdin().lock()));
    };
    let opened = File::open(file);
    let opened =
        opened.map_err(|error| BadArgument(format!("--file {}: {error}", file.display())))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// The next line without its end; of one that is too long a little more than may be taken, and the
/// rest is passed over.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Of its full size at once: a buffer that grows leaves copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_BYTES + 2));
    let most = u64::try_from(MAX_LINE_BYTES + 2).unwrap_or(u64::MAX);
    if input.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && line.len() > MAX_LINE_BYTES {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

/// Imports the key of one line.
///
/// # Errors
/// When the database fails: the next line would fare no better.
async fn take(
    issuer: &Issuer,
    import: &Import,
    number: usize,
    text: &[u8],
) -> anyhow::Result<Line> {
    let (name, foreign) = match parse(text, issuer.clock.now()) {
        Ok(parsed) => parsed,
        Err((name, notes)) => return Ok(Line::failed(number, name, notes)),
    };
    let done = if import.dry_run {
        issuer.try_import(foreign).await.map(|()| None)
    } else {
        issuer.import(foreign, &Actor::CommandLine).await.map(Some)
    };
    let line = Line::failed(number, name, Vec::new());
    Ok(match done {
        Ok(None) => Line { outcome: Outcome::Accepted, ..line },
        Ok(Some(imported)) => Line {
            outcome: Outcome::Imported,
            key_id: Some(imported.key.key_id.to_string()),
            filter_policy: FilterPolicyView::of(&imported.report),
            ..line
        },
        Err(ImportError::Known(key_id)) => Line {
            outcome: Outcome::Known,
            key_id: Some(key_id.to_string()),
            notes: vec!["it is known already".to_owned()],
            ..line
        },
        Err(ImportError::Store(error)) => {
            return Err(anyhow::Error::from(error).context(format!("line {number}")));
        }
        Err(ImportError::Refused(faults)) => {
            let about = |fault: &key_policy::Fault| {
                let more = if fault.is_hard() { " (cannot be overridden)" } else { "" };
                format!("{}: {fault}{more}", fault.as_str())
            };
            Line { notes: faults.iter().map(about).collect(), ..line }
        }
        Err(error) => Line { notes: vec![error.to_string()], ..line },
    })
}

type Bad = (Option<String>, Vec<String>);

/// Reads a line. What is said of a bad one repeats nothing of it but the name.
fn parse(text: &[u8], now: Timestamp) -> Result<(Option<String>, ForeignKey), Bad> {
    if text.len() > MAX_LINE_BYTES + 1 {
        return Err((None, vec![format!("is longer than {MAX_LINE_BYTES} bytes")]));
    }
    let Object(request) =
        serde_json::from_slice::<Object<ImportRequest>>(text).map_err(|error| {
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(it, _)| it);
            let said =
                if error.is_data() { wording::without_input(message) } else { message.to_owned() };
            (None, vec![said])
        })?;
    let name = request.name.clone();
    match request.check(now) {
        Ok(foreign) => Ok((Some(name), foreign)),
        Err(errors) => {
            let told = errors.iter().map(|it| format!("{}: {}", it.field, it.message)).collect();
            // A name that is no name may be anything, the key too.
            let name = Some(name).filter(|_| errors.iter().all(|it| it.field != "name"));
            Err((name, told))
        }
    }
}

fn report(import: &Import, lines: &[Line]) -> anyhow::Result<()> {
    let failed = lines.iter().filter(|line| match line.outcome {
        Outcome::Imported | Outcome::Accepted => false,
        Outcome::Known => !import.skip_known,
        Outcome::Failed => true,
    });
    let (failed, all) = (failed.count(), lines.len());
    if import.json {
        answer_json(&serde_json::json!({ "items": lines, "failed": failed }))?;
    } else {
        let rows: Vec<_> = lines.iter().map(Line::columns).collect();
        answer(&table::render(["LINE", "OUTCOME", "KEY ID", "NAME", "NOTES"], &rows))?;
    }
    if failed == 0 { Ok(()) } else { Err(SomeFailed { failed, all }.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<usize> {
        let mut input = BufReader::new(input);
        let mut found = Vec::new();
        while let Some(line) = next_line(&mut input).expect("read") {
            found.push(line.len());
        }
        found
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_no_other() {
        assert_eq!(lines(b""), [0; 0]);
        assert_eq!(lines(b"a\nbc\n\nd"), [2, 3, 1, 1]);
        let long = [&vec![b'x'; 3 * MAX_LINE_BYTES][..], b"\nab\n"].concat();
        assert_eq!(lines(&long), [MAX_LINE_BYTES + 2, 3]);
        let just = [&vec![b'x'; MAX_LINE_BYTES][..], b"\nab\n"].concat();
        assert_eq!(lines(&just), [MAX_LINE_BYTES + 1, 3]);
    }

    #[test]
    fn what_is_said_of_a_bad_line_does_not_repeat_it() {
        let canary = "canary-Zq8Xw3Lp-0b7Nf5";
        for text in [
            format!("{{\"api_key\": [\"{canary}\"], \"name\": \"a\"}}"),
            format!("{{\"api_key\": \"{canary}\", \"name\": \"{canary}\"}}"),
            format!("{{\"{canary}\": 1}}"),
            format!("\"{canary}\""),
            canary.to_owned(),
        ] {
            let (name, notes) = parse(text.as_bytes(), Timestamp::UNIX_EPOCH).err().expect("bad");
            assert!(!format!("{name:?} {notes:?}").contains("canary"), "{notes:?}");
        }
    }
}
