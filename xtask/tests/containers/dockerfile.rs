//! The `Dockerfile`, read as far as it can be judged without an engine.

use std::fs;

use xtask::{envoy, workspace};

/// A stage: the image it begins with, its name, and its instructions.
#[derive(Debug)]
struct Stage {
    from: String,
    name: String,
    instructions: Vec<(String, String)>,
}

impl Stage {
    fn all<'a>(&'a self, instruction: &'a str) -> impl Iterator<Item = &'a str> {
        let wanted = self.instructions.iter().filter(move |(name, _)| name == instruction);
        wanted.map(|(_, arguments)| arguments.as_str())
    }

    fn last<'a>(&'a self, instruction: &'a str) -> &'a str {
        let last = self.all(instruction).last();
        last.unwrap_or_else(|| panic!("{}: no {instruction}", self.name))
    }
}

fn text() -> String {
    fs::read_to_string(workspace::root().join("Dockerfile")).unwrap()
}

/// The value of a global `ARG`.
fn argument(name: &str) -> String {
    let text = text();
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(&format!("ARG {name}=")));
    found.unwrap_or_else(|| panic!("no ARG {name}")).to_owned()
}

fn stages() -> Vec<Stage> {
    let text = text().replace("\\\n", " ");
    let mut stages: Vec<Stage> = Vec::new();
    for line in text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#')) {
        let (instruction, arguments) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            let words: Vec<_> = arguments.split_whitespace().collect();
            assert_eq!(words[1], "AS", "a stage without a name: {line}");
            let (from, name) = (words[0].to_owned(), words[2].to_owned());
            stages.push(Stage { from, name, instructions: Vec::new() });
        } else if let Some(stage) = stages.last_mut() {
            let arguments = arguments.split_whitespace().collect::<Vec<_>>().join(" ");
            stage.instructions.push((instruction.to_owned(), arguments));
        } else {
            assert_eq!(instruction, "ARG", "{line}");
        }
    }
    stages
}

fn stage(name: &str) -> Stage {
    stages().into_iter().find(|stage| stage.name == name).unwrap()
}

#[test]
fn both_images_run_as_nobody_in_particular_and_know_whether_they_are_well() {
    assert_eq!(stages().last().unwrap().name, "control-plane", "the default image");
    for name in ["control-plane", "envoy"] {
        let stage = stage(name);
        let user = stage.last("USER");
        let (uid, gid) = user.split_once(':').unwrap();
        assert!(uid.parse::<u32>().unwrap() > 0 && gid.parse::<u32>().unwrap() > 0, "{user}");
        // Nothing runs after it as somebody else, and nothing is built in what is shipped.
        assert_eq!(stage.all("USER").count(), 1);
        assert_eq!(stage.all("RUN").count(), 0);
        assert!(stage.last("ENTRYPOINT").starts_with('['), "no shell is between");
        assert!(stage.last("HEALTHCHECK").contains(" CMD ["));
    }
    assert!(
        stage("control-plane").last("HEALTHCHECK").ends_with(r#"CMD ["keygate", "healthcheck"]"#)
    );
}

#[test]
fn base_images_are_pinned_to_the_versions_that_are_tested() {
    for stage in stages() {
        let image = match stage.from.strip_prefix("${").and_then(|it| it.strip_suffix('}')) {
            Some(name) => argument(name),
            None => stage.from,
        };
        let own = stages().iter().any(|stage| stage.name == image);
        assert!(own || image.contains(':'), "{image} has no tag");
        assert!(!image.ends_with(":latest"), "{image}");
    }
    assert_eq!(argument("ENVOY"), format!("envoyproxy/envoy:v{}", envoy::OLDEST));
    let manifest = fs::read_to_string(workspace::root().join("Cargo.toml")).unwrap();
    let (_, version) = manifest.split_once("rust-version = \"").unwrap();
    let version = version.split('"').next().unwrap();
    assert!(argument("RUST").starts_with(&format!("rust:{version}")), "not Rust {version}");
}

#[test]
fn everything_that_is_copied_is_there() {
    let stages = stages();
    for stage in &stages {
        for copy in stage.all("COPY") {
            let mut words: Vec<_> = copy.split(' ').collect();
            let target = words.pop().unwrap();
            if let Some(from) = words[0].strip_prefix("--from=") {
                let from = stages.iter().find(|stage| stage.name == from).unwrap();
                // `install … target /out/name` makes it.
                assert!(from.all("RUN").any(|run| run.ends_with(words[1])), "{copy}");
            } else {
                for source in words {
                    assert!(workspace::root().join(source).exists(), "{copy}");
                    assert!(source == "." || is_sent(source), "{source} is kept back");
                }
            }
            assert!(target.starts_with('/') || target == ".", "{copy}");
        }
    }
}

/// Whether `.dockerignore` lets a path of the repository through to the builder.
fn is_sent(path: &str) -> bool {
    let ignored = fs::read_to_string(workspace::root().join(".dockerignore")).unwrap();
    let first = path.split('/').next().unwrap();
    assert!(ignored.lines().any(|line| line == "*"), "all else is kept back");
    ignored.lines().any(|line| line == format!("!{first}"))
}

#[test]
fn the_builder_gets_every_crate_and_no_secret() {
    let manifest = fs::read_to_string(workspace::root().join("Cargo.toml")).unwrap();
    let (_, members) = manifest.split_once("members = [").unwrap();
    let members = members.split(']').next().unwrap();
    for member in members.split(',').map(|member| member.trim().trim_matches('"')) {
        assert!(is_sent(member), "{member} is kept back");
    }
    for needed in ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "migrations/sqlite"] {
        assert!(is_sent(needed), "{needed} is kept back");
    }
    for kept in [".env", ".git", "target", ".keygate", "docker-compose.yml"] {
        assert!(!is_sent(kept), "{kept} is sent");
    }
    let text = text().to_ascii_uppercase();
    for secret in ["PASSWORD", "SECRET_KEY", "EDGE_TOKEN=", "TOKEN="] {
        assert!(!text.contains(secret), "{secret} is in the Dockerfile");
    }
}
