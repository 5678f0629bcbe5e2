//! The control plane's TOML file.

use std::cell::LazyCell;
use std::fs;

use keygate::config::{Config, Flags, ServeConfig, load};
use tempfile::TempDir;

/// What a secret in the file is made of.
const SECRET: &str = "5ec4e7";

thread_local! {
    static FOLDER: LazyCell<TempDir> = LazyCell::new(|| TempDir::new().expect("a folder"));
}

pub(crate) fn run(data: &[u8]) {
    let file = FOLDER.with(|folder| folder.path().join("keygate.toml"));
    fs::write(&file, data).expect("the file is written");
    let flags = Flags { config: Some(file), ..Flags::default() };
    let text = String::from_utf8_lossy(data);
    match load(&flags, false, &|_| None) {
        Err(fault) => {
            let fault = fault.to_string();
            assert!(!fault.is_empty());
            hides(&text, &fault);
        }
        Ok(settings) => {
            hides(&text, &format!("{settings:?}"));
            // Files that are named are none of ours to read.
            if text.contains("_file") {
                return;
            }
            match Config::new(&settings) {
                Err(fault) => hides(&text, &fault.to_string()),
                Ok(config) => {
                    hides(&text, &format!("{config:?}"));
                    if let Err(fault) = ServeConfig::new(&settings, &config) {
                        hides(&text, &fault.to_string());
                    }
                }
            }
        }
    }
}

/// A secret is shown by nothing, where it stands in a setting that is a secret.
fn hides(file: &str, shown: &str) {
    let is_secret = |line: &str| {
        ["secret_key", "edge_token", "audit_signing_key", "sentry_dsn"].iter().any(|name| {
            line.strip_prefix(*name).is_some_and(|rest| rest.trim_start().starts_with("= \""))
        })
    };
    let mut lines = file.lines().filter(|line| line.contains(SECRET));
    if lines.clone().next().is_some() && lines.all(is_secret) {
        assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
    }
}
