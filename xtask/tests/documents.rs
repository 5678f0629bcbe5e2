//! Links between the documents lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use xtask::workspace;

#[cfg(test)]
fn documents() -> Vec<PathBuf> {
    let mut documents = vec![workspace::root().join("README.md")];
    for entry in fs::read_dir(workspace::root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path);
        }
    }
    documents
}

/// What is between `](` and `)`, outside blocks of code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut within_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            within_code = !within_code;
        }
        if within_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            links.extend(part.split(')').next().map(str::to_owned));
        }
    }
    links
}

/// The names that headings get: lower case, no punctuation, spaces as hyphens.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let name = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings.map(name).collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.is_empty() {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = document.parent().unwrap_or(Path::new("/"));
            let target = if file.is_empty() { document.clone() } else { folder.join(file) };
            let there = target.exists();
            let found = anchor.is_empty()
                || fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor));
            if !there || !found {
                let name = document.file_name().unwrap_or_default().to_string_lossy().into_owned();
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_document_is_named_by_another() {
    let all: String =
        documents().iter().map(|document| fs::read_to_string(document).unwrap()).collect();
    for document in documents() {
        let name = document.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(
            name == "README.md"
                || all.contains(&format!("{name})"))
                || all.contains(&format!("{name}#")),
            "{name}"
        );
    }
}
