//! Whether others on this machine can read the files that secrets are in.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::finding::{Check, Finding};
use crate::config::Settings;

/// What a file's mode has when everybody may read it or write to it. Groups are left alone: an
/// orchestrator hands secrets to the group that a container runs as.
const OTHERS: u32 = 0o006;

/// The files with secrets in them, by the settings that name them.
fn named(settings: &Settings) -> Vec<(&'static str, &Path)> {
    [
        ("KEYGATE_DATABASE_URL_FILE", &settings.database_url_file),
        ("KEYGATE_SECRET_KEY_FILE", &settings.secret_key_file),
        ("KEYGATE_SECRET_KEY_PREVIOUS_FILE", &settings.secret_key_previous_file),
        ("KEYGATE_AUDIT_SIGNING_KEY_FILE", &settings.audit_signing_key_file),
        ("KEYGATE_EDGE_TOKEN_FILE", &settings.edge_token_file),
        ("KEYGATE_TLS_KEY_FILE", &settings.tls_key_file),
        ("KEYGATE_EDGE_TLS_KEY_FILE", &settings.edge_tls_key_file),
        ("KEYGATE_REDIS_URL_FILE", &settings.redis_url_file),
        ("KEYGATE_REDIS_KEY_FILE", &settings.redis_key_file),
        ("KEYGATE_SENTRY_DSN_FILE", &settings.sentry_dsn_file),
    ]
    .into_iter()
    .filter_map(|(name, file)| Some((name, file.as_deref()?)))
    .collect()
}

/// Looks at the secrets' files, and at the TOML file, which may hold some.
pub(super) fn examine(settings: &Settings, toml: Option<&PathBuf>) -> Vec<Finding> {
    let mut files = named(settings);
    files.extend(toml.map(|file| ("KEYGATE_CONFIG", file.as_path())));
    if files.is_empty() {
        return vec![Finding::skipped(Check::SecretFiles, "no secret is in a file")];
    }
    let found: Vec<_> =
        files.iter().filter_map(|(name, file)| judge(name, file, mode(file))).collect();
    if found.is_empty() {
        let what = format!("{} file(s), none of them for everybody to read", files.len());
        return vec![Finding::ok(Check::SecretFiles, what)];
    }
    found
}

fn mode(file: &Path) -> io::Result<u32> {
    Ok(fs::metadata(file)?.permissions().mode())
}

fn judge(setting: &str, file: &Path, mode: io::Result<u32>) -> Option<Finding> {
    let shown = file.display();
    match mode {
        Ok(mode) if mode & OTHERS == 0 => None,
        Ok(mode) => Some(Finding::warning(
            Check::SecretFiles,
            format!(
                "{setting}: everybody on this machine can read {shown} (mode {:o})",
                mode & 0o777
            ),
            format!("chmod o= {shown}"),
        )),
        Err(error) => Some(Finding::failed(
            Check::SecretFiles,
            format!("{setting}: {shown} cannot be looked at: {error}"),
            "name a file that is there and that this user may read",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{finding::Status, tests::settings};

    #[test]
    fn a_secret_that_everybody_can_read_is_told_and_one_of_a_group_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        fs::write(&file, "secret").expect("written");
        let settings = settings(&[
            ("KEYGATE_EDGE_TOKEN", ""),
            ("KEYGATE_EDGE_TOKEN_FILE", file.to_str().expect("text")),
        ]);
        for (mode, status) in [
            (0o600, Status::Ok),
            (0o640, Status::Ok),
            (0o644, Status::Warning),
            (0o602, Status::Warning),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(examine(&settings, None)[0].status, status, "{mode:o}");
        }
        let toml = folder.path().join("missing.toml");
        assert!(examine(&settings, Some(&toml)).iter().any(|it| it.status == Status::Failed));
    }

    #[test]
    fn without_files_there_is_nothing_to_look_at() {
        assert_eq!(examine(&settings(&[]), None)[0].status, Status::Skipped);
    }
}
