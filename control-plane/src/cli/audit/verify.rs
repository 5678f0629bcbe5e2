//! `keygate audit verify`

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader, IsTerminal},
    path::{Path, PathBuf},
    str::FromStr,
};

use super::super::{
    offline,
    output::{answer, answer_json},
};
use crate::{
    audit::{
        chain::{
            ChainHash,
            check::{Trust, Verified},
            checkpoint::PublicKey,
            fault::Fault,
            line::{Line, LineCheck},
        },
        signer::configured_keys,
        verify::{Scope, verify},
    },
    config::{Config, Settings},
};

/// Rows between two words of progress.
const PROGRESS_ROWS: u64 = 1_000_000;

#[expect(clippy::doc_markdown, reason = "clap shows it as it stands")]
#[derive(clap::Args)]
pub(in super::super) struct Arguments {
    /// Believe checkpoints of this key (64 hex digits); may be given several times [default: the
    /// keys that follow from KEYGATE_AUDIT_SIGNING_KEY and KEYGATE_SECRET_KEY]
    #[arg(long, value_name = "KEY")]
    public_key: Vec<PublicKey>,
    /// A checkpoint from the log stream, as its AUDIT_CHECKPOINT line has it; may be given several
    /// times
    #[arg(long, value_name = "SEQ:HASH")]
    checkpoint: Vec<Anchor>,
    /// An export with its chain (`audit export --chain`) in the place of the database
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy)]
struct Anchor(u64, ChainHash);

impl FromStr for Anchor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "must be a batch and its hash, such as 17:8f0c… with 64 hex digits";
        let (sequence, hash) = text.split_once(':').ok_or(WANTED)?;
        Ok(Self(sequence.parse().map_err(|_| WANTED)?, hash.parse().map_err(|_| WANTED)?))
    }
}

/// What was found, with who was believed.
#[derive(serde::Serialize)]
struct Report<'a> {
    whole: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<&'a Verified>,
    #[serde(flatten)]
    fault: Option<&'a Fault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Empty: any key was believed.
    trusted_keys: Vec<String>,
}

pub(super) async fn run(arguments: Arguments, settings: &Settings) -> anyhow::Result<()> {
    let config = Config::new(settings)?;
    let mut keys = arguments.public_key;
    if keys.is_empty() {
        keys = configured_keys(&config);
    }
    let trusted_keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    let trust = if keys.is_empty() { Trust::Anyone } else { Trust::Keys(keys) };
    let anchors = arguments.checkpoint.iter().map(|Anchor(sequence, hash)| (*sequence, *hash));
    let scope = Scope { trust, anchors: anchors.collect(), up_to: None };

    let shown = !arguments.json && std::io::stderr().is_terminal();
    let mut said = 0;
    let mut progress = |rows: u64| {
        if shown && rows - said >= PROGRESS_ROWS {
            said = rows;
            eprintln!("{rows} rows …");
        }
    };
    let result = if let Some(path) = &arguments.file {
        verify_file(path, &scope, &mut progress)?
    } else {
        let (_, store) = offline::open(settings).await?;
        verify(&*store, &scope, &mut progress).await?
    };
    if arguments.json {
        answer_json(&Report {
            whole: result.is_ok(),
            found: result.as_ref().ok(),
            fault: result.as_ref().err(),
            message: result.as_ref().err().map(ToString::to_string),
            trusted_keys: trusted_keys.clone(),
        })?;
    }
    let found = result?;
    if !arguments.json {
        answer(&text(&found, &trusted_keys))?;
    }
    Ok(())
}

/// Looks through an export.
fn verify_file(
    path: &Path,
    scope: &Scope,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<Result<Verified, Fault>> {
    let file = File::open(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let mut check = LineCheck::new(scope.trust.clone(), scope.anchors.clone());
    for (number, text) in (1_u64..).zip(BufReader::new(file).lines()) {
        let line: Line = match serde_json::from_str(&text?) {
            Ok(line) => line,
            Err(error) => {
                let place = format!("line {number} of {}", path.display());
                return Ok(Err(Fault::Unreadable { place, problem: error.to_string() }));
            }
        };
        if let Err(fault) = check.line(line) {
            return Ok(Err(fault));
        }
        progress(check.rows());
    }
    Ok(check.finish())
}

fn text(found: &Verified, trusted_keys: &[String]) -> String {
    let Verified {
        batches,
        rows,
        retired,
        sequence,
        last_id,
        hash,
        checkpoints,
        vouched_for,
        rows_since,
    } = found;
    let mut text = format!(
        "The audit log is whole: {rows} rows in {batches} batches, up to row {last_id}.\n\
         It ends with batch {sequence}:{hash}\n"
    );
    if *retired > 0 {
        let _ =
            writeln!(text, "Everything up to batch {retired} has been retired, and signed for.");
    }
    if *vouched_for == 0 {
        text += "No checkpoint vouches for it: someone with the database could have rewritten all of it.\n";
    } else {
        let _ = writeln!(
            text,
            "{checkpoints} checkpoints were looked at; they vouch for it up to batch {vouched_for}. \
             {rows_since} rows are newer."
        );
    }
    if trusted_keys.is_empty() {
        text += "No key was given to believe: checkpoints were held against the keys that stand \
                 beside them in the database. Give one with --public-key.\n";
    }
    text
}
