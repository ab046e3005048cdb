//! The documents name only what exists.

use std::{
    fs,
    path::{Path, PathBuf},
};

const DOCUMENTS: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "bench/README.md",
];

/// Where a short name in a section of ARCHITECTURE.md may stand, besides the root.
const SECTIONS: [&str; 6] = [
    "crates/bus/src",
    "crates/eventstore/src",
    "crates/saga/src",
    "crates/sagamill/src",
    "crates/cli/src",
    "crates/testkit/src",
];

#[test]
fn files_named_in_documents_exist() {
    let (mut named, mut missing) = (0, Vec::new());
    for (document, text) in documents() {
        for path in quoted(&text).filter(|path| is_path(path)) {
            named += 1;
            if !root().join(path).exists() && !SECTIONS.iter().any(|of| root().join(of).join(path).exists()) {
                missing.push(format!("{document} names `{path}`"));
            }
        }
    }
    assert!(missing.is_empty(), "follow the code, or mend the name: {missing:#?}");
    assert!(
        named > 30,
        "only {named} files are named: the documents are looked at in the wrong way"
    );
}

#[test]
fn links_in_documents_lead_somewhere() {
    for (document, text) in documents() {
        let folder = root()
            .join(&document)
            .parent()
            .expect("a document is in a folder")
            .to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = path.is_empty() || path.contains("://");
            assert!(
                elsewhere || folder.join(path).exists(),
                "{document} links to `{target}`, which does not exist"
            );
        }
    }
}

#[test]
fn a_document_has_one_sentence_per_line() {
    for (document, text) in documents() {
        let mut fenced = false;
        for line in text.lines() {
            fenced ^= line.starts_with("```");
            let prose =
                !fenced && !line.starts_with(['|', '-', '#', '>']) && !line.starts_with(|c: char| c.is_ascii_digit());
            let sentences = line.match_indices(". ").filter(|(at, _)| is_end(line, *at)).count();
            assert!(
                !prose || sentences == 0,
                "{document}: one sentence per line, please: {line}"
            );
        }
    }
}

/// Whether a full stop ends a sentence: what follows begins with a capital letter.
fn is_end(line: &str, at: usize) -> bool {
    line[at + 2..].starts_with(|c: char| c.is_uppercase() || c == '`' || c == '*')
}

fn documents() -> Vec<(String, String)> {
    let mut names: Vec<String> = DOCUMENTS.map(str::to_owned).to_vec();
    for entry in fs::read_dir(root().join("docs/adr")).expect("docs/adr can be read") {
        let name = entry.expect("docs/adr can be read").file_name();
        names.push(format!("docs/adr/{}", name.to_string_lossy()));
    }
    let read = |name: String| {
        let text = fs::read_to_string(root().join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, text)
    };
    names.into_iter().map(read).collect()
}

/// What stands between backquotes, outside of fenced blocks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    let lines = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    });
    lines.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// A file or a folder of the repository, not a URL, a type or a command.
fn is_path(text: &str) -> bool {
    let simple = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let file = [".rs", ".md", ".toml", ".sql"]
        .iter()
        .any(|ending| text.ends_with(ending));
    let folder = text.ends_with('/') || text.starts_with("crates/") || text.starts_with("services/");
    simple && (file || folder)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace is one folder up")
        .to_owned()
}
