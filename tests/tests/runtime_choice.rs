//! Which runtime `orchd dev` takes when none is asked for: Docker when an engine answers, else processes; and it stays
//! with what a data directory began with.

use orchestrator_tests::orchd::Orchd;

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("orch-e2e-").tempdir().expect("a temporary directory")
}

async fn chosen(dir: &tempfile::TempDir, docker_host: &str) -> String {
    let orchd = Orchd::start_with(&dir.path().join("data"), &[], docker_host).await;
    let chosen = orchd.ready.split(' ').find_map(|word| word.strip_prefix("runtime="));
    let chosen = chosen.expect("`ready` names the runtime").to_owned();
    assert_eq!(orchd.stop().await.code(), Some(0));
    chosen
}

#[tokio::test]
async fn without_an_engine_pods_are_processes() {
    let dir = directory();
    let nowhere = format!("unix://{}", dir.path().join("no.sock").display());
    assert_eq!(chosen(&dir, &nowhere).await, "process");
}

#[cfg(feature = "docker")]
#[tokio::test]
async fn an_engine_that_answers_is_taken_unless_the_directory_has_processes() {
    let engine = orchestrator_tests::engine::TestEngine::from_env();
    let dir = directory();
    assert_eq!(chosen(&dir, engine.host()).await, "docker");
    let dir = directory();
    let nowhere = format!("unix://{}", dir.path().join("no.sock").display());
    assert_eq!(chosen(&dir, &nowhere).await, "process");
    assert_eq!(chosen(&dir, engine.host()).await, "process", "it stays with its pods");
}
