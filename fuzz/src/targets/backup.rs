//! Backups that are not as they were made.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use keygate::backup::{check, make};
use keygate::clock::SystemClock;
use keygate::config::{Config, DatabaseUrl};
use keygate::random::SystemRandom;
use keygate::store;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::service::config;

/// A backup as it was made.
struct Original {
    folder: TempDir,
    bytes: Vec<u8>,
    config: Config,
}

pub(crate) fn run(data: &[u8]) {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    let original = ORIGINAL.get_or_init(Original::make);
    let mut changed = original.bytes.clone();
    if edit(&mut changed, &mut Unstructured::new(data)).is_err() || data.len() % 7 == 6 {
        // Not a change of one, but anything.
        changed = data.to_vec();
    }
    let file = original.file("changed");
    fs::write(&file, &changed).expect("the file is written");
    let checked = runtime().block_on(check(&original.config, &file, &SystemRandom, &mut |_| {}));
    match checked {
        Ok(_) => assert!(changed == original.bytes, "a changed backup is taken for good"),
        Err(error) => assert!(changed != original.bytes, "a good backup is refused: {error}"),
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl Original {
    fn make() -> Self {
        let folder = TempDir::new().expect("a folder");
        let config = config(DatabaseUrl::Sqlite(folder.path().join("keygate.db")));
        let file = folder.path().join("original");
        runtime().block_on(async {
            store::migrate(&config.database).await.expect("migrations");
            make(&config, &file, &SystemClock, &SystemRandom, &mut |_| {}).await.expect("a backup")
        });
        let bytes = fs::read(&file).expect("the backup");
        Self { folder, bytes, config }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A few changes, most of them in its head.
fn edit(bytes: &mut Vec<u8>, input: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..input.int_in_range(1..=3u8)? {
        let in_head = input.arbitrary()?;
        let most = if in_head { bytes.len().min(700) } else { bytes.len() };
        let at = input.int_in_range(0..=most)?;
        match input.int_in_range(0..=3u8)? {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = input.arbitrary()?;
                }
            }
            2 => bytes.insert(at, input.arbitrary()?),
            _ => {
                let to = (at + input.int_in_range(0..=9)?).min(bytes.len());
                bytes.drain(at..to);
            }
        }
    }
    Ok(())
}
