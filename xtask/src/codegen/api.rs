//! The admin API's description, and the page of its problems.

use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;
use crate::stack::{Build, build_keygate};

const HEAD: &str = "\
<!-- Made by `cargo xtask codegen` from control-plane/src/http/problem.rs. Change it there. -->

# Problems

What the admin API answers when it does not do what was asked: `application/problem+json` (RFC 9457). \
Programs go by `code`, which never changes; `instance` is the request's id, which is also in the \
header `X-Request-Id` and in the log. Where fields or parameters are wrong, `errors` names each.

| status | `code` | what it means | what to do |
|---|---|---|---|
";

/// The description, as the program itself prints it.
///
/// # Errors
/// When the program cannot be built or run.
pub(super) fn description() -> Result<String> {
    let mut keygate = Command::new(build_keygate(Build::Debug)?);
    keygate.arg("openapi");
    process::capture(keygate)
}

/// A table of all problems.
///
/// # Errors
/// When the description is not as the generator expects.
pub(super) fn problems(description: &str) -> Result<String> {
    let description: Value = serde_json::from_str(description)?;
    let all = description
        .pointer("/components/schemas/ProblemCode/x-problems")
        .and_then(Value::as_array)
        .context("the description lists no problems")?;
    let mut page = HEAD.to_owned();
    for problem in all {
        let text = |name: &str| {
            let value = problem.get(name).and_then(Value::as_str);
            value.with_context(|| format!("a problem without {name}"))
        };
        let status = problem.get("status").and_then(Value::as_u64).context("a status")?;
        let (code, meaning, advice) = (text("code")?, text("meaning")?, text("advice")?);
        writeln!(page, "| {status} | `{code}` | {meaning} | {advice} |")?;
    }
    Ok(page)
}
