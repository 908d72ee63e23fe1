use super::*;
use crate::controller::ReplicaSetController;
use crate::model::{ConditionStatus, Container, DeploymentStrategy, Pod, Uid, condition_status};
use crate::testkit::sandbox::Sandbox;

fn sandbox(deployment: Deployment) -> Sandbox {
    let mut sandbox =
        Sandbox::new(vec![Box::new(DeploymentController), Box::new(ReplicaSetController)]);
    sandbox.put(recorded(deployment));
    sandbox
}

/// The deployment as the API would have recorded it.
fn recorded(mut deployment: Deployment) -> Deployment {
    deployment.metadata.uid = Uid::from_uuid(uuid::Uuid::from_u128(7));
    deployment.metadata.generation += 1;
    deployment
}

fn key() -> Key {
    Key::new(Kind::Deployment, "default", "web")
}

fn web(replicas: i32) -> Deployment {
    Deployment::new("web", "nginx:1").replicas(replicas)
}

fn edit(sandbox: &mut Sandbox, edit: impl FnOnce(&mut Deployment)) {
    sandbox.change(&key(), |deployment: &mut Deployment| {
        edit(deployment);
        deployment.metadata.generation += 1;
    });
}

fn set_image(deployment: &mut Deployment, image: &str) {
    let spec = std::sync::Arc::make_mut(&mut deployment.spec.template.spec);
    spec.containers = vec![Container::new("web", image)];
}

fn sizes(sandbox: &Sandbox) -> Vec<(String, i32)> {
    let mut sets: Vec<_> = sandbox.world().all::<ReplicaSet>(None).collect();
    sets.sort_by_key(|set| set.metadata.annotations[REVISION_ANNOTATION].parse::<i64>().ok());
    let image = |set: &ReplicaSet| set.spec.template.spec.containers[0].image.clone();
    sets.into_iter().map(|set| (image(set), size(set))).collect()
}

fn progress(sandbox: &Sandbox) -> (ConditionStatus, String) {
    let deployment = sandbox.world().at::<Deployment>(&key()).expect("deployment");
    let conditions = &deployment.status.conditions;
    let reason = conditions.iter().find(|condition| condition.kind == "Progressing");
    (
        condition_status(conditions, "Progressing"),
        reason.map(|condition| condition.reason.clone()).unwrap_or_default(),
    )
}

#[test]
fn a_new_deployment_becomes_available() {
    let mut sandbox = sandbox(web(3));
    sandbox.complete().expect("settled");
    assert!(sandbox.world().deployment("web").is_available());
    assert_eq!(sandbox.active_pods("default").len(), 3);
    assert_eq!(progress(&sandbox), (ConditionStatus::True, "NewReplicaSetAvailable".to_owned()));
    let deployment = sandbox.world().deployment("web");
    assert_eq!(deployment.metadata.annotations[REVISION_ANNOTATION], "1");
}
