//! `orchd demo --exit` succeeds and leaves no container, network, image of its own, process or file.

use std::path::PathBuf;

use orchestrator_tests::machine::{claims_below, contents, processes_with};
use orchestrator_tests::orchd::{Ended, command, run};
use tempfile::TempDir;

/// A place in which everything that a demo writes would show.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("orch-e2e-").tempdir();
        let place = Self(dir.expect("a temporary directory"));
        for name in ["home", "tmp", "work"] {
            std::fs::create_dir(place.path(name)).expect("a new directory");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn demo(&self, runtime: &str, docker_host: &str) -> Ended {
        self.demo_with(&["--runtime", runtime], docker_host).await
    }

    async fn demo_with(&self, options: &[&str], docker_host: &str) -> Ended {
        let mut command = command(&["demo", "--exit"]);
        command.args(options);
        command.env("DOCKER_HOST", docker_host).env("HOME", self.path("home"));
        command.env("TMPDIR", self.path("tmp")).current_dir(self.path("work"));
        run(command).await
    }

    fn assert_nothing_left(&self, ended: &Ended) {
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let files: Vec<_> = contents(self.0.path()).into_iter().map(|(path, ..)| path).collect();
        assert_eq!(files, ["home", "tmp", "work"].map(PathBuf::from), "{}", ended.stdout);
        let dir = self.0.path().display().to_string();
        assert_eq!(processes_with(&dir), [], "{}", ended.stdout);
        assert_eq!(claims_below(self.0.path()), Vec::<PathBuf>::new(), "{}", ended.stdout);
    }
}

fn assert_told(ended: &Ended, runtime: &str) {
    let steps = [
        runtime,
        "3 replicas",
        "killed the container",
        "runs again",
        "scaled to 5",
        "rolled to version 2",
        "none failed",
        "taken down",
    ];
    for step in steps {
        assert!(ended.stdout.contains(step), "{step:?} is not told: {ended:?}");
    }
    let pages = ended.stdout.lines().filter(|line| line.contains("answers: hello from")).count();
    assert_eq!(pages, 3, "a page from each replica: {}", ended.stdout);
}

fn assert_told_of_nodes(ended: &Ended) {
    let steps = [
        "node-3 has joined",
        "6 replicas, all ready",
        "killed node-3",
        "all 6 are ready again, without node-3",
        "node-3 runs 0",
        "node-3 is back",
        "scaled to 8 replicas",
        "taken down",
    ];
    let mut told = ended.stdout.as_str();
    for step in steps {
        let at = told.find(step).unwrap_or_else(|| panic!("{step:?} is not told: {ended:?}"));
        told = &told[at..];
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_of_nodes_on_processes_leaves_nothing() {
    let place = Place::new();
    let ended = place.demo_with(&["--nodes", "3", "--runtime", "process"], "").await;
    assert_told_of_nodes(&ended);
    place.assert_nothing_left(&ended);
}

#[cfg(feature = "cluster")]
#[tokio::test(flavor = "multi_thread")]
async fn a_demo_of_nodes_on_machines_leaves_nothing() {
    let place = Place::new();
    let ended = place.demo_with(&["--nodes", "3", "--runtime", "docker"], "").await;
    assert_told_of_nodes(&ended);
    place.assert_nothing_left(&ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_on_processes_leaves_nothing() {
    let place = Place::new();
    let ended = place.demo("process", "").await;
    assert_told(&ended, "process");
    place.assert_nothing_left(&ended);
}

#[cfg(feature = "docker")]
#[tokio::test(flavor = "multi_thread")]
async fn a_demo_on_docker_leaves_nothing() {
    use std::collections::BTreeSet;

    use orchestrator_tests::engine::TestEngine;

    let engine = TestEngine::from_env();
    let images = async || -> BTreeSet<String> {
        let (code, images) = engine.call("GET", "/images/json").await;
        assert_eq!(code, 200, "{images}");
        let images = images.as_array().cloned().unwrap_or_default();
        let tags = images.iter().filter_map(|image| image["RepoTags"].as_array().cloned());
        tags.flatten().map(|tag| tag.as_str().unwrap_or_default().to_owned()).collect()
    };
    let is_demo = |image: &str| image.contains("orchd") || image.contains("demo");
    let place = Place::new();
    let host = engine.host().to_owned();
    let demo = place.demo("docker", &host);
    tokio::pin!(demo);
    // Other tests use the engine too: what the demo's cluster is shows while it runs.
    let mut clusters = BTreeSet::new();
    let ended = loop {
        tokio::select! {
            ended = &mut demo => break ended,
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
        }
        let (_, containers) = engine.call("GET", "/containers/json?all=true").await;
        for container in containers.as_array().into_iter().flatten() {
            if is_demo(container["Image"].as_str().unwrap_or_default()) {
                let cluster = &container["Labels"]["orchestrator.dev/cluster"];
                clusters.insert(cluster.as_str().unwrap_or_default().to_owned());
            }
        }
    };
    assert_told(&ended, "docker");
    place.assert_nothing_left(&ended);
    assert_eq!(clusters.len(), 1, "the demo's containers were seen: {clusters:?}");
    for cluster in &clusters {
        assert_eq!(engine.left_of(cluster).await, Vec::<serde_json::Value>::new());
    }
    let left: Vec<_> = images().await.into_iter().filter(|image| is_demo(image)).collect();
    assert_eq!(left, Vec::<String>::new(), "images of the demo");
}
