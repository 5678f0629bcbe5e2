//! `docs/failure-modes.md` says nothing that no test holds.

use std::collections::BTreeSet;
use std::fs;

use crate::security::Sources;
use crate::workspace;

const PAGE: &str = "docs/failure-modes.md";
const METRICS: &str = "docs/metrics.md";
/// Tests of the outage matrix: each belongs on the page.
const MATRIX: &str = "tests/tests/outage/";
/// The heading of the column with the tests.
const HELD_BY: &str = "held by";

/// The cells of the rows of every table that has a column of tests; the tests are the last one.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    let mut within = false;
    for line in page.lines() {
        let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
        let Some(inner) = inner else {
            within = false;
            continue;
        };
        let cells: Vec<_> = inner.split('|').map(str::trim).collect();
        if within && !cells.iter().all(|cell| cell.starts_with("---")) {
            rows.push(cells);
        } else if cells.last() == Some(&HELD_BY) {
            within = true;
        }
    }
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_row_of_the_failure_modes_names_tests_that_exist() {
    let root = workspace::root();
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let sources = Sources::read().unwrap();
    let rows = rows(&page);
    assert!(rows.len() >= 18, "{} rows were found", rows.len());
    for row in &rows {
        let tests: Vec<_> = row.last().into_iter().flat_map(|cell| quoted(cell)).collect();
        assert!(row.len() == 6 && !tests.is_empty(), "no test holds this: {row:?}");
        for test in tests {
            assert!(sources.place(test).is_some(), "there is no test {test}");
        }
    }
}

#[test]
fn every_test_of_the_outage_matrix_is_on_the_page() {
    let root = workspace::root();
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let named: BTreeSet<_> =
        rows(&page).iter().filter_map(|row| row.last().copied()).flat_map(quoted).collect();
    let mut found = 0;
    for file in fs::read_dir(root.join(MATRIX)).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let mut lines = text.lines();
        while lines.any(|line| line == "#[test]") {
            let name = lines.by_ref().find_map(|line| line.strip_prefix("fn ")).unwrap();
            let name = name.split('(').next().unwrap();
            assert!(named.contains(name), "{PAGE} does not name {name}");
            found += 1;
        }
    }
    assert!(found >= 14, "{found} tests were found");
}

#[test]
fn every_metric_of_the_failure_modes_is_one() {
    let root = workspace::root();
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let metrics = fs::read_to_string(root.join(METRICS)).unwrap();
    let names = rows(&page).into_iter().filter_map(|row| row.get(3).copied()).flat_map(quoted);
    let mut found = 0;
    for name in names.filter(|name| name.starts_with("keygate")) {
        let name = name.split('{').next().unwrap();
        assert!(metrics.contains(&format!("| `{name}` |")), "{METRICS} has no {name}");
        found += 1;
    }
    assert!(found >= 20, "{found} metrics were found");
}
