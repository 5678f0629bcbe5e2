//! `keygate backup` and `keygate restore`.

use std::{fmt::Write as _, io::IsTerminal, path::PathBuf};

use super::output::{answer, answer_json};
use crate::{
    backup::{self, Checked, Made, Occupied, Progress, Restored},
    clock::SystemClock,
    config::{Config, Settings},
    random::SystemRandom,
};

#[derive(clap::Args)]
pub(super) struct BackupArguments {
    /// The backup; there must be no such file yet
    file: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct RestoreArguments {
    /// The backup
    file: PathBuf,
    /// Look through it, all of it, and restore nothing
    #[arg(long, conflicts_with = "force")]
    check: bool,
    /// Put it in the place of a database that has something in it; that one is renamed, not deleted
    #[arg(long)]
    force: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Says how far it is, to whoever watches, and not too often.
fn watcher(json: bool) -> impl FnMut(Progress) + Send {
    const MIB: u64 = 1024 * 1024;
    const STEP: u64 = 256 * MIB;
    const ROWS: u64 = 1_000_000;
    let shown = !json && std::io::stderr().is_terminal();
    let (mut copied, mut verified) = (0, 0);
    move |progress| match progress {
        Progress::Copying { bytes, of } if shown && (bytes < copied || bytes >= copied + STEP) => {
            copied = bytes;
            let of = of.map(|of| format!(" of about {} MiB", of / MIB)).unwrap_or_default();
            eprintln!("{} MiB{of} …", bytes / MIB);
        }
        Progress::Verifying { rows } if shown && (rows < verified || rows >= verified + ROWS) => {
            verified = rows;
            eprintln!("{rows} audit rows …");
        }
        _ => {}
    }
}

pub(super) async fn backup(arguments: BackupArguments, settings: &Settings) -> anyhow::Result<()> {
    let config = Config::new(settings)?;
    let mut watcher = watcher(arguments.json);
    let made =
        backup::make(&config, &arguments.file, &SystemClock, &SystemRandom, &mut watcher).await?;
    if arguments.json {
        return answer_json(&made);
    }
    let Made { file, manifest, audit_rows } = made;
    Ok(answer(&format!(
        "{}: {} keys, {audit_rows} audit rows, {} bytes\n\
         It was looked through, and is whole. It can be restored with this secret key only, which \
         is not in it.\n",
        file.display(),
        manifest.keys,
        manifest.bytes,
    ))?)
}

pub(super) async fn restore(
    arguments: RestoreArguments,
    settings: &Settings,
) -> anyhow::Result<()> {
    let config = Config::new(settings)?;
    let mut watcher = watcher(arguments.json);
    let file = &arguments.file;
    if arguments.check {
        let checked = backup::check(&config, file, &SystemRandom, &mut watcher).await?;
        return if arguments.json {
            answer_json(&checked)
        } else {
            Ok(answer(&format!("It is whole: {}\n", summary(&checked)))?)
        };
    }
    let occupied = if arguments.force { Occupied::MoveAway } else { Occupied::Refuse };
    let (clock, random) = (&SystemClock, &SystemRandom);
    let restored = backup::restore(&config, file, occupied, clock, random, &mut watcher).await?;
    if arguments.json {
        return answer_json(&restored);
    }
    Ok(answer(&told(&restored))?)
}

fn summary(checked: &Checked) -> String {
    let Checked { manifest, audit_rows } = checked;
    let rows = audit_rows.map(|rows| format!(" and {rows} audit rows")).unwrap_or_default();
    format!("{} keys{rows} of {}", manifest.keys, manifest.made_at)
}

/// What was done, and what is left to do.
fn told(restored: &Restored) -> String {
    let Restored { checked, moved_away, lost } = restored;
    let mut text = format!("Restored: {}.\n", summary(checked));
    if let Some(away) = moved_away {
        let _ = writeln!(text, "The database that was there is {} now.", away.display());
    }
    let Some(lost) = lost else {
        let _ = writeln!(
            text,
            "\nWhatever was changed after {} is lost, and it cannot be told from here what that is.\n\
             Before you start the service, look into its log, or its audit log elsewhere, for lines\n\
             from then on: KEY_REVOKED (those keys are good again: revoke them), KEY_UPDATED (as\n\
             before), KEY_CREATED and KEY_ROTATED (those keys are gone).",
            checked.manifest.made_at
        );
        return text;
    };
    if lost.changes == 0 {
        text += "No change of a key was lost.\n";
        return text;
    }
    let _ = writeln!(text, "\n{} change(s) of keys after the backup are lost:", lost.changes);
    for (keys, what) in
        [(&lost.created, "made, and gone"), (&lost.updated, "changed, and as before")]
    {
        for key in keys {
            let _ = writeln!(text, "  {key}  {what}");
        }
    }
    for key in &lost.revoked {
        let _ = writeln!(text, "  {key}  ended, and good again");
    }
    if !lost.revoked.is_empty() {
        text += "\nBefore you start the service, revoke what had ended:\n";
        for key in &lost.revoked {
            let _ =
                writeln!(text, "  keygate keys revoke {key} --reason 'revoked before a restore'");
        }
    }
    text
}
