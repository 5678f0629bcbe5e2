//! `keygate reference`: the page of all commands, for `docs/command-line.md`.

use clap::{Arg, Command};
use std::fmt::Write as _;

const HEAD: &str = "\
<!-- Made by `cargo xtask codegen` from control-plane/src/cli. Change it there. -->

# The command line

`keygate COMMAND`, with the settings of [configuration.md](configuration.md). Commands other than `serve` work on the \
database itself, whether or not a service runs on it, under the service's own rules: what they change is in the audit \
log, with `cli` as who did it, and a running service notices at once. Answers go to standard output, as tables or with \
`--json`; everything else goes to standard error.

| exit code | means |
|---|---|
| 0 | done; of `healthcheck`, `audit verify`, `doctor`: all is well |
| 1 | tried, and failed; of `healthcheck`: the service is not well; of `audit verify`: the log is not as it was written; of `doctor`: something is to be mended |
| 2 | the command line or a setting is wrong; nothing was tried |
| 3 | what was asked for does not exist |
| 4 | it exists, and its state or version does not allow what was asked for |
";

/// The page.
pub(super) fn page(root: &Command) -> String {
    let mut page = HEAD.to_owned();
    if let Some(more) = root.get_after_help() {
        let _ = writeln!(page, "\n{more}");
    }
    let _ = writeln!(page, "\n## Settings as flags\n\nThey go with every command.\n");
    options(&mut page, root.get_arguments().filter(|it| it.is_global_set()));
    for command in root.get_subcommands() {
        commands(&mut page, "keygate", command);
    }
    page
}

fn commands(page: &mut String, before: &str, command: &Command) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{before} {}", command.get_name());
    if command.has_subcommands() {
        for inner in command.get_subcommands() {
            commands(page, &name, inner);
        }
        return;
    }
    let _ = write!(page, "\n## {name}");
    for value in command.get_positionals() {
        let shown = placeholder(value);
        let _ = if value.is_required_set() {
            write!(page, " {shown}")
        } else {
            write!(page, " [{shown}]")
        };
    }
    let about = command.get_long_about().or(command.get_about());
    let _ = writeln!(
        page,
        "\n\n{}.\n",
        about.map(ToString::to_string).unwrap_or_default().trim_end_matches('.')
    );
    let own = command.get_arguments().filter(|it| !it.is_global_set() && !is_help(it));
    options(page, own);
}

fn is_help(argument: &Arg) -> bool {
    ["help", "version"].contains(&argument.get_id().as_str())
}

/// What stands for the argument's value.
fn placeholder(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let names: Vec<_> = names.iter().map(|name| name.as_str().to_ascii_uppercase()).collect();
    if names.is_empty() { argument.get_id().as_str().to_ascii_uppercase() } else { names.join(" ") }
}

fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let mut arguments = arguments.filter(|it| !it.is_hide_set()).peekable();
    if arguments.peek().is_none() {
        return;
    }
    let _ = writeln!(page, "| option | meaning |\n|---|---|");
    for argument in arguments {
        let shown = match argument.get_long() {
            None => placeholder(argument),
            Some(long) if argument.get_action().takes_values() => {
                format!("--{long} {}", placeholder(argument))
            }
            Some(long) => format!("--{long}"),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let mut meaning = help.replace('\n', " ").replace('|', "\\|");
        if argument.is_required_set() {
            meaning.push_str(" (required)");
        }
        if argument.get_action().takes_values() && !argument.get_default_values().is_empty() {
            let values = argument.get_default_values().iter();
            let values: Vec<_> = values.map(|it| it.to_string_lossy()).collect();
            let _ = write!(meaning, " [default: {}]", values.join(", "));
        }
        let _ = writeln!(page, "| `{}` | {meaning} |", shown.replace('|', "\\|"));
    }
}

#[cfg(test)]
mod tests {
    use super::page;
    use clap::CommandFactory;

    #[test]
    fn every_command_is_on_the_page_with_its_options() {
        let mut root = crate::cli::Cli::command();
        root.build();
        let page = page(&root);
        for line in [
            "## keygate serve",
            "## keygate keys create",
            "## keygate keys show KEY_ID",
            "## keygate audit verify",
            "| `--name NAME` | What the key is called (required) |",
            "| `--json` | As JSON |",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} is not in {page}");
        }
        assert!(!page.contains("--help"), "{page}");
    }
}
