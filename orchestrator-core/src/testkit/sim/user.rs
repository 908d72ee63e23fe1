//! `edit`: something a user does at a random moment.

use serde_json::json;

use super::Rng;
use crate::api::{Cascade, DeleteOptions, Patch, Preconditions, Request, WriteOptions};
use crate::model::{Container, Deployment, Key, Kind, Object, Part, Pod, Resource};
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
        14 => delete(key, Cascade::Background),
        15 => delete(key, Cascade::Foreground),
        16 => cordon(rng, world),
        _ => {
            let pods: Vec<Key> = world.all::<Pod>(None).map(|pod| pod.key()).collect();
            match pods.get(rng.below(pods.len())) {
                Some(pod) => delete(pod.clone(), Cascade::Background),
                None => apply(&name, rng),
            }
        }
    }
}

/// Chooses a rollout of the one deployment of a calm cluster.
pub(super) fn roll(rng: &mut Rng, world: &World) -> Request {
    let replicas = world
        .find::<Deployment>("default", "d0")
        .map_or(4, |known| known.spec.replicas.unwrap_or(1));
    request("d0", &format!("image:{}", rng.below(3)), 100, replicas)
}

fn apply(name: &str, rng: &mut Rng) -> Request {
    let image = format!("image:{}", rng.below(3));
    let cpu = [100, 400, 700][rng.below(3)];
    let replicas = i32::try_from(rng.below(REPLICAS + 1)).unwrap_or(0);
    request(name, &image, cpu, replicas)
}

fn request(name: &str, image: &str, cpu_milli: i64, replicas: i32) -> Request {
    let container = Container::new("main", image).requests(cpu_milli, 64 << 20);
    let object = Object::from(Deployment::of(name, vec![container]).replicas(replicas));
    Request::Patch {
        key: object.key(),
        part: Part::Main,
        patch: Patch::Apply(object.to_value()),
        preconditions: Preconditions::default(),
        options: WriteOptions::default(),
    }
}

fn delete(key: Key, cascade: Cascade) -> Request {
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
