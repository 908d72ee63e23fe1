//! The manifests of `examples/manifests` are read, and accepted by a cluster without a warning.

use std::path::{Path, PathBuf};

use orchestrator_core::api::{Caller, Patch, Preconditions, Request, WriteOptions};
use orchestrator_core::driver::Cluster;
use orchestrator_core::manifest;
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{Object, Part};

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let entries = std::fs::read_dir(&dir).expect("examples/manifests is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    files
}

#[tokio::test]
async fn every_manifest_is_accepted_without_a_warning() {
    let cluster = Cluster::builder().store(MemStore::new()).start().await.expect("a cluster");
    let caller = Caller::Admin { name: "test".to_owned() };
    for file in files() {
        let shown = file.display().to_string();
        let bytes = std::fs::read(&file).expect("readable");
        for document in manifest::parse(&bytes, &shown).expect("a manifest") {
            let kind = Object::kind_of(&document.value).expect("a known kind");
            let object = Object::from_value(kind, document.value.clone()).expect("an object");
            let mut key = object.key();
            if kind.is_namespaced() && key.namespace.is_empty() {
                key.namespace = "default".into();
            }
            let request = Request::Patch {
                key,
                part: Part::Main,
                patch: Patch::Apply(document.value.clone()),
                preconditions: Preconditions::default(),
                options: WriteOptions::default(),
            };
            let effect = cluster.submit(&caller, request).await;
            let effect = effect.unwrap_or_else(|rejection| {
                panic!("{shown}:{}: {rejection}", document.line);
            });
            assert_eq!(effect.warnings, Vec::<String>::new(), "{shown}:{}", document.line);
        }
    }
    cluster.shutdown(false).await;
}
