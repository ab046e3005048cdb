//! The shape of the workspace: who may import whom, who may do what, and how big a file may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, Package};

/// What each package may import of the workspace's own, other than in its tests. A new package is added here first.
const IMPORTS: &[(&str, &[&str])] = &[
    ("sagamill-bus", &[]),
    ("sagamill-eventstore", &["sagamill-bus"]),
    ("sagamill-saga", &["sagamill-bus", "sagamill-eventstore"]),
    ("sagamill", &["sagamill-bus", "sagamill-eventstore", "sagamill-saga"]),
    ("sagamill-service-kit", &[]),
    ("shop-contracts", &["sagamill"]),
    ("shop-frame", &["sagamill", "sagamill-service-kit", "shop-contracts"]),
    ("shop-order", SERVICE),
    ("shop-inventory", SERVICE),
    ("shop-payment", SERVICE),
    ("shop-shipping", SERVICE),
    (
        "sagamill-cli",
        &[
            "sagamill",
            "sagamill-service-kit",
            "shop-contracts",
            "shop-frame",
            "shop-order",
            "shop-inventory",
            "shop-payment",
            "shop-shipping",
        ],
    ),
    (
        "sagamill-bench",
        &[
            "sagamill",
            "sagamill-bus",
            "sagamill-eventstore",
            "sagamill-saga",
            "sagamill-testkit",
        ],
    ),
    ("sagamill-testkit", &[]),
    ("sagamill-tests", &["sagamill-cli"]),
    ("xtask", &["sagamill-testkit"]),
];
const SERVICE: &[&str] = &["sagamill", "sagamill-service-kit", "shop-contracts", "shop-frame"];

/// The crates that others build on: they know no HTTP, no console, no process set-up.
const LIBRARIES: [&str; 4] = ["sagamill-bus", "sagamill-eventstore", "sagamill-saga", "sagamill"];

/// What a library must not depend on, by the beginning of the name.
const PROCESS_CRATES: [&str; 12] = [
    "actix-",
    "anyhow",
    "axum",
    "clap",
    "figment",
    "hyper",
    "metrics-exporter-",
    "opentelemetry",
    "reqwest",
    "tonic",
    "tower-http",
    "tracing-subscriber",
];

/// Clients of databases and brokers, and the folders that may name them: of rusqlite the store's own threads and the baseline
/// of the measurements, of a broker's its transport, that one's tests, and its baseline.
const CLIENTS: [(&str, &[&str]); 4] = [
    ("rusqlite", &["crates/eventstore/src/sqlite", "bench/src"]),
    (
        "async_nats",
        &[
            "crates/bus/src/transport/nats",
            "crates/bus/tests/nats",
            "bench/src/broker/bare/nats.rs",
        ],
    ),
    (
        "lapin",
        &[
            "crates/bus/src/transport/amqp",
            "crates/bus/tests/amqp",
            "bench/src/broker/bare/rabbitmq.rs",
        ],
    ),
    (
        "rdkafka",
        &[
            "crates/bus/src/transport/kafka",
            "crates/bus/tests/kafka",
            "bench/src/broker/bare/kafka.rs",
        ],
    ),
];

/// Where environment variables may be read: at the edge of a process, and in tests.
const PROCESS_FOLDERS: [&str; 7] = [
    "bench",
    "crates/cli",
    "crates/service-kit",
    "crates/testkit",
    "services",
    "tests",
    "xtask",
];

const LINES_MAX: usize = 600;

#[test]
fn imports_run_one_way() {
    let metadata = metadata();
    let allowed: BTreeMap<_, _> = IMPORTS.iter().copied().collect();
    for package in metadata.workspace_packages() {
        let Some(imports) = allowed.get(package.name.as_str()) else {
            panic!(
                "`{}` is new: say in IMPORTS of {} what it may import",
                package.name,
                file!()
            );
        };
        for dependency in &package.dependencies {
            let own = dependency.path.is_some() && dependency.kind != DependencyKind::Development;
            assert!(
                !own || imports.contains(&dependency.name.as_str()),
                "`{}` imports `{}`: imports run bus <- eventstore <- saga <- sagamill <- cli; move the code down, or turn \
                 the call around with a trait",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn libraries_know_no_process() {
    let metadata = metadata();
    for package in libraries(metadata) {
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development)
        {
            assert!(
                !PROCESS_CRATES.iter().any(|name| dependency.name.starts_with(name)),
                "`{}` depends on `{}`: HTTP, command lines and exporters belong to service-kit, the services or the cli",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn a_client_is_named_in_its_own_folder() {
    for path in sources().into_iter().filter(|path| !is_layout_test(path)) {
        for (client, folders) in CLIENTS {
            let allowed = folders.iter().any(|folder| path.starts_with(root().join(folder)));
            assert!(
                allowed || !code(&path).contains(&format!("{client}::")),
                "{} names {client}: only {folders:?} may; put it behind a trait",
                shown(&path)
            );
        }
    }
}

#[test]
fn libraries_read_no_environment() {
    for path in sources() {
        let process = PROCESS_FOLDERS
            .iter()
            .any(|folder| path.starts_with(root().join(folder)));
        let aside = path.components().any(|part| {
            ["tests", "examples", "benches"]
                .iter()
                .any(|of| part.as_os_str() == *of)
        });
        assert!(
            process || aside || !code(&path).contains("env::var"),
            "{} reads an environment variable: take the value as an argument, and read it in service-kit or the cli",
            shown(&path)
        );
    }
}

#[test]
fn libraries_install_no_globals() {
    let globals = ["set_global_default", "set_global_recorder", "set_hook", "process::exit"];
    for path in sources().into_iter().filter(|path| in_library(path)) {
        for global in globals {
            assert!(
                !code(&path).contains(global),
                "{} calls `{global}`: what holds for the whole process is set up by the process",
                shown(&path)
            );
        }
    }
}

#[test]
fn one_sqlite_is_linked() {
    let versions = versions("libsqlite3-sys");
    assert_eq!(
        versions.len(),
        1,
        "libsqlite3-sys {versions:?}: rusqlite and sqlx must share one; take the newest rusqlite that fits sqlx's"
    );
}

#[test]
fn no_foreign_tls_is_built() {
    for name in ["aws-lc-sys", "native-tls", "openssl"] {
        assert!(
            versions(name).is_empty(),
            "`{name}` is in the tree: it needs a C or C++ tool-chain; turn off the feature that brings it \
             (`cargo tree --workspace --all-features --invert {name}`)"
        );
    }
}

/// Kafka's own client knows no other, behind a feature that nobody has unasked.
#[test]
fn openssl_comes_with_kafkas_client_alone() {
    let metadata = metadata();
    let resolve = metadata
        .resolve
        .as_ref()
        .expect("cargo metadata resolves the dependencies");
    let of = |id: &cargo_metadata::PackageId| metadata[id].name.to_string();
    let dependants: BTreeSet<String> = resolve
        .nodes
        .iter()
        .filter(|node| node.dependencies.iter().any(|id| of(id) == "openssl-sys"))
        .map(|node| of(&node.id))
        .collect();
    assert_eq!(dependants, BTreeSet::from(["rdkafka-sys".to_owned()]));
    for package in metadata.workspace_packages() {
        let unasked = package.features.get("default").into_iter().flatten();
        let brings_it = unasked.filter(|feature| feature.contains("kafka")).count();
        assert_eq!(brings_it, 0, "{}: no default feature is Kafka's", package.name);
    }
}

#[test]
fn packages_have_names_of_their_own() {
    let metadata = metadata();
    let mut names = BTreeMap::new();
    for package in metadata.workspace_packages() {
        let name = package.name.to_string();
        let before = names.insert(name.clone(), &package.manifest_path);
        assert!(
            before.is_none(),
            "two packages are named `{name}`: {before:?} and {}",
            package.manifest_path
        );
    }
    let registry: BTreeSet<_> = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some())
        .map(|package| package.name.to_string())
        .collect();
    for name in names.keys() {
        assert!(
            !registry.contains(name),
            "`{name}` is also the name of a dependency: rename the package"
        );
    }
}

#[test]
fn manifests_inherit_from_the_workspace() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        for field in ["version", "edition", "rust-version", "license", "publish"] {
            assert!(
                manifest.contains(&format!("\n{field}.workspace = true")),
                "{}: write `{field}.workspace = true`",
                package.manifest_path
            );
        }
        assert!(
            manifest.contains("\n[lints]\nworkspace = true"),
            "{}: end it with `[lints]` and `workspace = true`",
            package.manifest_path
        );
        assert!(
            package.description.is_some(),
            "{}: say in `description` what it is",
            package.manifest_path
        );
    }
}

#[test]
fn versions_stand_in_the_workspace_manifest() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if let Some(table) = line.strip_prefix('[') {
                in_dependencies = table.contains("dependencies");
            } else if in_dependencies && line.contains('=') {
                assert!(
                    line.contains("workspace = true") || line.contains("path = \".\""),
                    "{}: `{line}`: name the version in the root Cargo.toml, and write `workspace = true` here",
                    package.manifest_path
                );
            }
        }
    }
}

#[test]
fn every_crate_says_what_it_is() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        for target in package.targets.iter().filter(|target| target.is_lib()) {
            let source = fs::read_to_string(&target.src_path).unwrap();
            assert!(
                source.starts_with("//! "),
                "{}: begin it with `//!` and what the crate is for",
                target.src_path
            );
        }
    }
}

#[test]
fn no_file_is_too_long() {
    for path in sources() {
        let lines = read(&path).lines().count();
        assert!(
            lines <= LINES_MAX,
            "{} has {lines} lines, more than {LINES_MAX}: split it by idea",
            shown(&path)
        );
    }
}

#[test]
fn modules_are_named_for_what_they_hold() {
    for path in sources() {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        assert!(
            !["utils", "util", "helpers", "helper", "common", "misc"].contains(&stem.as_ref()),
            "{}: name the file for the one idea in it",
            shown(&path)
        );
    }
}

/// The resolved workspace, all features on, as this machine builds it.
static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), host()])
        .exec()
        .expect("`cargo metadata --locked` works: Cargo.lock is committed and up to date")
});

fn metadata() -> &'static Metadata {
    &METADATA
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host")
        .to_owned()
}

fn libraries(metadata: &Metadata) -> impl Iterator<Item = &Package> {
    metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| LIBRARIES.contains(&package.name.as_str()))
}

/// The versions of a package that are built for this machine.
fn versions(name: &str) -> BTreeSet<String> {
    let metadata = metadata();
    let resolve = metadata
        .resolve
        .as_ref()
        .expect("cargo metadata resolves the dependencies");
    let nodes: BTreeSet<_> = resolve.nodes.iter().map(|node| &node.id).collect();
    let found = metadata
        .packages
        .iter()
        .filter(|package| package.name == name && nodes.contains(&package.id));
    found.map(|package| package.version.to_string()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace is one folder up")
        .to_owned()
}

fn in_library(path: &Path) -> bool {
    ["bus", "eventstore", "saga", "sagamill"]
        .iter()
        .any(|of| path.starts_with(root().join("crates").join(of).join("src")))
}

fn is_layout_test(path: &Path) -> bool {
    path.ends_with(file!())
}

/// A file without its comments, so that words in prose do not count.
fn code(path: &Path) -> String {
    let text = read(path);
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Every Rust file of the workspace.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["bench", "crates", "services", "tests", "xtask"] {
        collect(&root().join(folder), &mut files);
    }
    assert!(files.len() > 30, "the sources are looked for in the wrong place");
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("a source folder can be read").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
