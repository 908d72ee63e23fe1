//! What a simulated cluster begins with: a namespace and its nodes.

use super::{NODES, Simulation};
use crate::api::{Caller, Request, WriteOptions};
use crate::model::{
    ConditionStatus, Kind, Namespace, Node, NodeCondition, Object, ObjectMeta, Part, Quantity,
};

impl Simulation {
    pub(super) fn furnish(&mut self) {
        let namespace = Namespace {
            metadata: ObjectMeta { name: "default".to_owned(), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let admin = Caller::Admin { name: "set-up".to_owned() };
        let mut objects = vec![Object::from(namespace)];
        objects.extend((0..NODES).map(|number| Object::from(node(&format!("n{number}")))));
        for object in objects {
            let (kind, part) = (object.kind(), Part::Status);
            let (key, options) = (object.key(), WriteOptions::default());
            let namespace = String::new();
            let create = Request::Create {
                kind,
                namespace,
                object: object.to_value(),
                options: options.clone(),
            };
            self.request(&admin, &create).expect("a valid object");
            if kind == Kind::Node {
                let update = Request::Update { key, part, object: object.to_value(), options };
                self.request(&admin, &update).expect("a valid status");
            }
        }
    }
}

fn node(name: &str) -> Node {
    let mut node = Node {
        metadata: ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() },
        ..Node::default()
    };
    let room = [
        ("cpu", Quantity::from_units(2)),
        ("memory", Quantity::from_bytes(4 << 30)),
        ("pods", Quantity::from_units(8)),
    ];
    node.status.capacity = room.map(|(name, amount)| (name.to_owned(), amount)).into();
    node.status.allocatable = node.status.capacity.clone();
    let ready = NodeCondition {
        kind: "Ready".to_owned(),
        status: ConditionStatus::True,
        ..NodeCondition::default()
    };
    node.status.conditions.push(ready);
    node
}
