//! `edit`: something a user does at a random moment.

use serde_json::json;

use super::Rng;
use crate::api::{Cascade, DeleteOptions, Patch, Preconditions, Request, WriteOptions};
use crate::model::{
    Container, Deployment, ExecAction, Key, Kind, Object, Part, Probe, StrategyType,
};
use crate::world::World;

/// How many deployments a simulation has.
const DEPLOYMENTS: usize = 3;
/// The most replicas a user asks for.
const REPLICAS: usize = 6;

/// Chooses an edit.
pub(super) fn edit(rng: &mut Rng, world: &World) -> Request {
    let name = format!("d{}", rng.below(DEPLOYMENTS));
    let key = Key::new(Kind::Deployment, "default", &name);
    if world.get(&key).is_none() {
        return apply(&name, rng);
    }
    match rng.below(20) {
        0..8 => Request::Scale {
            key,
            replicas: i32::try_from(rng.below(REPLICAS + 1)).unwrap_or(0),
            preconditions: Preconditions::default(),
            options: WriteOptions::default(),
        },
        8..14 => apply(&name, rng),
        14 => {
            let cascades = [Cascade::Background, Cascade::Foreground, Cascade::Orphan];
            delete(key, cascades[rng.below(3)])
        }
        15 => match random_key(rng, world, Kind::ReplicaSet) {
            Some(set) => delete(set, Cascade::Foreground),
            None => apply(&name, rng),
        },
        16 => cordon(rng, world),
        _ => match random_key(rng, world, Kind::Pod) {
            Some(pod) => delete(pod, Cascade::Background),
            None => apply(&name, rng),
        },
    }
}

/// Chooses a rollout of the one deployment of a calm cluster.
pub(super) fn roll(rng: &mut Rng, world: &World) -> Request {
    let replicas = world
        .find::<Deployment>("default", "d0")
        .map_or(4, |known| known.spec.replicas.unwrap_or(1));
    let strategy = StrategyType::RollingUpdate;
    request("d0", &format!("image:{}", rng.below(3)), 100, replicas, strategy)
}

fn random_key(rng: &mut Rng, world: &World, kind: Kind) -> Option<Key> {
    let keys: Vec<Key> = world.list(kind, None).map(|(key, _)| key.clone()).collect();
    keys.get(rng.below(keys.len())).cloned()
}

fn apply(name: &str, rng: &mut Rng) -> Request {
    let image = format!("image:{}", rng.below(3));
    let cpu = [100, 400, 700][rng.below(3)];
    let replicas = i32::try_from(rng.below(REPLICAS + 1)).unwrap_or(0);
    let strategy = match rng.percent(20) {
        true => StrategyType::Recreate,
        false => StrategyType::RollingUpdate,
    };
    request(name, &image, cpu, replicas, strategy)
}

/// Applies a deployment of probed pods.
pub(super) fn request(
    name: &str,
    image: &str,
    cpu_milli: i64,
    replicas: i32,
    strategy: StrategyType,
) -> Request {
    let mut container = Container::new("main", image).requests(cpu_milli, 64 << 20);
    let exec = Some(ExecAction { command: vec!["check".to_owned()] });
    let probe = Probe { exec, ..Probe::default() };
    container.readiness_probe = Some(probe.clone());
    container.liveness_probe = Some(probe);
    let mut deployment = Deployment::of(name, vec![container]).replicas(replicas);
    deployment.spec.strategy.kind = Some(strategy);
    let object = Object::from(deployment);
    Request::Patch {
        key: object.key(),
        part: Part::Main,
        patch: Patch::Apply(object.to_value()),
        preconditions: Preconditions::default(),
        options: WriteOptions::default(),
    }
}

pub(super) fn delete(key: Key, cascade: Cascade) -> Request {
    Request::Delete { key, options: DeleteOptions { cascade, ..DeleteOptions::default() } }
}

fn cordon(rng: &mut Rng, world: &World) -> Request {
    let nodes: Vec<Key> = world.list(Kind::Node, None).map(|(key, _)| key.clone()).collect();
    let key = nodes.get(rng.below(nodes.len())).cloned().unwrap_or_else(|| Key::node("n0"));
    Request::Patch {
        key,
        part: Part::Main,
        patch: Patch::Merge(json!({ "spec": { "unschedulable": rng.percent(40) } })),
        preconditions: Preconditions::default(),
        options: WriteOptions::default(),
    }
}
