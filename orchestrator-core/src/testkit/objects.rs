//! Strategies for clusters: objects of every kind whose names, labels and owners meet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{option, sample};

use crate::model::{
    AggregationRule, CLEANUP_FINALIZER, ClusterRole, Condition, ConditionStatus, ConfigMap,
    CountOrPercent, CustomKind, CustomResourceDefinition, DefinitionVersion, Deployment, Event,
    FOREGROUND_FINALIZER, Key, Kind, LabelSelector, Lease, LeaseSpec, MicroTime,
    NAMESPACE_FINALIZER, Namespace, NamespaceSpec, Node, NodeCondition, ORPHAN_FINALIZER, Object,
    ObjectMeta, OwnerReference, Pod, PodDisruptionBudget, PodDisruptionBudgetSpec, PodPhase,
    PodSpec, PodTemplate, PolicyRule, ReplicaSet, ReplicaSetSpec, Revision, RollingUpdate,
    SLOT_ANNOTATION, StrategyType, StringMap, Taint, TaintEffect, Time, Timestamp, Uid,
    set_condition,
};
use crate::world::Signal;

/// The time at which generated clusters are looked at.
pub const CLUSTER_NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// The most objects of a generated cluster, not counting its namespaces.
pub const CLUSTER_OBJECTS_MAX: usize = 14;

/// How sensible generated objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Whatever can be decoded: negative counts, selectors that miss, garbage in annotations, wrong owners.
    Absurd,
    /// What the API would admit; nobody claims what is another's.
    Sound,
}

/// Objects and what is heard of nodes.
#[derive(Clone, Default)]
pub struct Cluster {
    /// The objects, at most one of a key.
    pub objects: Vec<Object>,
    /// Heartbeats.
    pub heard: Vec<Signal>,
}

/// Prints a line of JSON for each object: what a failing test shows.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for object in &self.objects {
            write!(f, "\n  {}", object.to_value())?;
        }
        self.heard.iter().try_for_each(|signal| write!(f, "\n  {signal:?}"))
    }
}

/// The uid of a life of an object: the same for equal arguments.
pub fn uid_of(key: &Key, life: u64) -> Uid {
    Uid::derived(Uid::default(), &key.to_string(), Revision(life))
}

/// Generates clusters.
pub fn clusters(shape: Shape) -> impl Strategy<Value = Cluster> {
    let heard = vec((node_name(), 0..90_000i64), 0..3);
    (vec(object(shape), 0..CLUSTER_OBJECTS_MAX), heard).prop_map(|(objects, heard)| {
        let mut unique: BTreeMap<Key, Object> = BTreeMap::new();
        for name in ["default", "other"] {
            let namespace = Object::from(active_namespace(name));
            unique.insert(namespace.key(), namespace);
        }
        unique.extend(objects.into_iter().map(|object| (object.key(), object)));
        let heartbeat = |(node, ago): (&str, i64)| Signal::Heartbeat {
            node: node.to_owned(),
            at: CLUSTER_NOW.plus_millis(-ago),
        };
        Cluster {
            objects: unique.into_values().collect(),
            heard: heard.into_iter().map(heartbeat).collect(),
        }
    })
}

fn object(shape: Shape) -> impl Strategy<Value = Object> {
    prop_oneof![
        budget(shape).prop_map(Object::from),
        cluster_role(shape).prop_map(Object::from),
        Just(definition().into()),
        lease(shape).prop_map(Object::from),
        widget(shape).prop_map(Object::from),
        config_map(shape).prop_map(Object::from),
        deployment(shape).prop_map(Object::from),
        event().prop_map(Object::from),
        namespace(shape).prop_map(Object::from),
        node(shape).prop_map(Object::from),
        pod(shape).prop_map(Object::from),
        pod(shape).prop_map(Object::from),
        replica_set(shape).prop_map(Object::from),
    ]
}

/// Picks from `sound`, and in an absurd cluster from `absurd` too.
fn pick<T: Clone + std::fmt::Debug + 'static>(
    shape: Shape,
    sound: &[T],
    absurd: &[T],
) -> impl Strategy<Value = T> + use<T> {
    let mut all = sound.to_vec();
    if shape == Shape::Absurd {
        all.extend_from_slice(absurd);
    }
    sample::select(all)
}

fn node_name() -> impl Strategy<Value = &'static str> {
    sample::select(vec!["n1", "n2", "n3"])
}

fn labels(pairs: &[(&str, &str)]) -> StringMap {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Metadata of an object that may be marked for deletion.
fn meta(
    shape: Shape,
    kind: Kind,
    names: &'static [&'static str],
) -> impl Strategy<Value = ObjectMeta> {
    let finalizers = pick(
        shape,
        &[vec![], vec![FOREGROUND_FINALIZER], vec![ORPHAN_FINALIZER]],
        &[vec!["example.org/hold"], vec![FOREGROUND_FINALIZER, ORPHAN_FINALIZER]],
    );
    let namespaces = pick(shape, &["default"], &["other", "missing"]);
    let life = pick(shape, &[1], &[0, 2]);
    let deleting = option::weighted(0.25, finalizers);
    (sample::select(names), namespaces, life, deleting).prop_map(
        move |(name, namespace, life, deleting)| {
            let key = Key::new(kind, namespace, name);
            ObjectMeta {
                creation_timestamp: Some(CLUSTER_NOW.plus_millis(-3_000_000).to_time()),
                deletion_grace_period_seconds: deleting.as_ref().map(|_| 0),
                deletion_timestamp: deleting.as_ref().map(|_| CLUSTER_NOW.to_time()),
                finalizers: deleting.into_iter().flatten().map(str::to_owned).collect(),
                generation: 1,
                // A life of 0 stands for an object without a uid.
                uid: if life == 0 { Uid::default() } else { uid_of(&key, life) },
                ..ObjectMeta::named(&key.namespace, name)
            }
        },
    )
}

fn owner(key: &Key, life: u64, blocks: bool) -> OwnerReference {
    OwnerReference {
        api_version: key.kind.api_version().to_owned(),
        block_owner_deletion: blocks,
        controller: false,
        kind: key.kind.name().to_owned(),
        name: key.name.to_string(),
        uid: uid_of(key, life),
    }
}

fn config_map(shape: Shape) -> impl Strategy<Value = ConfigMap> {
    let names: &[&str] = &["c0", "c1", "c2", "c3"];
    // Owners come later in the alphabet, so that no sound object owns itself in a circle.
    let owners = vec((0..6usize, any::<bool>(), 1..3u64), 0..3);
    (meta(shape, Kind::ConfigMap, names), owners).prop_map(move |(mut metadata, owners)| {
        let kinds = [
            Kind::ConfigMap,
            Kind::ConfigMap,
            Kind::ConfigMap,
            Kind::ReplicaSet,
            Kind::Node,
            widgets(),
        ];
        let names = ["c1", "c2", "c3", "rs0", "n1", "w0"];
        for (which, blocks, life) in owners {
            let key = Key::new(kinds[which], &metadata.namespace, names[which]);
            let later = *key.name > *metadata.name || key.kind != Kind::ConfigMap;
            let known = metadata.owner_references.iter().any(|known| *known.name == *key.name);
            if shape == Shape::Absurd || (later && !known) {
                metadata.owner_references.push(owner(&key, life, blocks));
            }
        }
        ConfigMap { metadata, ..ConfigMap::default() }
    })
}

/// A custom kind of namespaced objects.
fn widgets() -> Kind {
    let kind = CustomKind::new("example.org", "Widget", "widgets", true);
    let kind = kind.and_then(|kind| kind.at_version("v1"));
    Kind::Custom(kind.expect("names of a kind, and few kinds in a test"))
}

/// The definition of the custom kind, in service.
fn definition() -> CustomResourceDefinition {
    let mut definition = CustomResourceDefinition::default();
    let key = Key::cluster(Kind::CustomResourceDefinition, "widgets.example.org");
    definition.metadata = ObjectMeta {
        finalizers: vec![CLEANUP_FINALIZER.to_owned()],
        generation: 1,
        uid: uid_of(&key, 1),
        ..ObjectMeta::named("", &key.name)
    };
    let spec = &mut definition.spec;
    "example.org".clone_into(&mut spec.group);
    "Namespaced".clone_into(&mut spec.scope);
    "Widget".clone_into(&mut spec.names.kind);
    "widgets".clone_into(&mut spec.names.plural);
    let version = DefinitionVersion {
        name: "v1".to_owned(),
        served: true,
        storage: true,
        ..DefinitionVersion::default()
    };
    spec.versions.push(version);
    let established = Condition {
        kind: "Established".to_owned(),
        status: ConditionStatus::True,
        ..Condition::default()
    };
    definition.status.conditions.push(established);
    definition
}

fn widget(shape: Shape) -> impl Strategy<Value = Object> {
    let owners = vec((0..2usize, any::<bool>(), 1..3u64), 0..2);
    (meta(shape, widgets(), &["w0", "w1"]), owners).prop_map(|(mut metadata, owners)| {
        for (which, blocks, life) in owners {
            let kind = [Kind::ReplicaSet, Kind::Node][which];
            let key = Key::new(kind, &metadata.namespace, ["rs0", "n1"][which]);
            let known = metadata.owner_references.iter().any(|known| *known.name == *key.name);
            if !known {
                metadata.owner_references.push(owner(&key, life, blocks));
            }
        }
        let mut object = Object::empty(widgets());
        *object.meta_mut() = metadata;
        object
    })
}

fn template(labels: StringMap) -> PodTemplate {
    let spec = Arc::clone(&Pod::new("template", "nginx").spec);
    PodTemplate { metadata: ObjectMeta { labels, ..ObjectMeta::default() }, spec }
}

fn replica_set(shape: Shape) -> impl Strategy<Value = ReplicaSet> {
    let replicas = pick(shape, &[None, Some(0), Some(1), Some(3)], &[Some(-3), Some(2)]);
    let min_ready = pick(shape, &[0, 10], &[-5, i32::MAX]);
    let metadata = meta(shape, Kind::ReplicaSet, &["rs0", "rs1", "rs2"]);
    let selects = pick(shape, &["own"], &["rs0", "", "nobody"]);
    (metadata, replicas, min_ready, selects).prop_map(|(metadata, replicas, min_ready, selects)| {
        let own = labels(&[("set", &metadata.name)]);
        let selected = match selects {
            "own" => own.clone(),
            "" => StringMap::new(),
            other => labels(&[("set", other)]),
        };
        let spec = ReplicaSetSpec {
            min_ready_seconds: min_ready,
            replicas,
            selector: LabelSelector::from_labels(selected),
            template: template(own.clone()),
            ..ReplicaSetSpec::default()
        };
        let metadata = ObjectMeta { labels: own, ..metadata };
        ReplicaSet { metadata, spec, ..ReplicaSet::default() }
    })
}

fn deployment(shape: Shape) -> impl Strategy<Value = Deployment> {
    use CountOrPercent::{Count, Percent};
    let bound = || {
        pick(
            shape,
            &[None, Some(Count(0)), Some(Count(1)), Some(Percent(50))],
            &[Some(Count(-2)), Some(Percent(-70)), Some(Percent(i32::MAX)), Some(Count(i32::MAX))],
        )
    };
    let replicas = pick(shape, &[None, Some(0), Some(3), Some(5)], &[Some(-1)]);
    let kind =
        sample::select(vec![None, Some(StrategyType::Recreate), Some(StrategyType::RollingUpdate)]);
    let limits = pick(shape, &[None, Some(0), Some(600)], &[Some(-7), Some(i32::MAX)]);
    let metadata = meta(shape, Kind::Deployment, &["d0", "d1"]);
    let selects_all = pick(shape, &[false], &[true]);
    (metadata, replicas, kind, (bound(), bound()), limits, any::<bool>(), selects_all).prop_map(
        |(metadata, replicas, kind, (max_surge, max_unavailable), limit, paused, selects_all)| {
            let mut deployment = Deployment::new(&metadata.name, "nginx");
            deployment.metadata = metadata;
            let spec = &mut deployment.spec;
            spec.replicas = replicas;
            spec.paused = paused;
            spec.strategy.kind = kind;
            spec.strategy.rolling_update = Some(RollingUpdate { max_surge, max_unavailable });
            spec.progress_deadline_seconds = limit;
            spec.revision_history_limit = limit;
            if selects_all {
                spec.selector = LabelSelector::default();
            }
            deployment
        },
    )
}

fn pod(shape: Shape) -> impl Strategy<Value = Pod> {
    let metadata = meta(shape, Kind::Pod, &["p0", "p1", "p2", "p3", "p4", "p5"]);
    let set = sample::select(vec!["rs0", "rs1", "rs2"]);
    let stray = pick(shape, &[None], &[Some("rs0"), Some("rs1")]);
    let life = pick(shape, &[1], &[2]);
    let owned = any::<bool>();
    let slot = pick(shape, &[None], &[Some("0"), Some("-1"), Some("x")]);
    let phase = sample::select(vec![
        PodPhase::Pending,
        PodPhase::Running,
        PodPhase::Running,
        PodPhase::Failed,
        PodPhase::Succeeded,
    ]);
    let node = option::of(node_name());
    (metadata, (set, stray, life), owned, slot, phase, node).prop_map(
        |(mut metadata, (set, stray, life), owned, slot, phase, node)| {
            metadata.labels = labels(&[("set", stray.unwrap_or(set))]);
            if owned {
                let key = Key::new(Kind::ReplicaSet, &metadata.namespace, set);
                metadata.owner_references =
                    vec![OwnerReference { controller: true, ..owner(&key, life, true) }];
            }
            let slot = slot.map(|slot| (SLOT_ANNOTATION.to_owned(), slot.to_owned()));
            metadata.annotations.extend(slot);
            let mut pod = Pod { metadata, spec: Arc::new(PodSpec::default()), ..Pod::default() };
            pod.node_name = node.unwrap_or_default().to_owned();
            pod.status.phase = phase;
            let ready = phase == PodPhase::Running && pod.is_bound();
            let condition = crate::model::Condition {
                kind: "Ready".to_owned(),
                status: ready.into(),
                ..Default::default()
            };
            set_condition(&mut pod.status.conditions, condition, CLUSTER_NOW.to_time());
            pod
        },
    )
}

fn budget(shape: Shape) -> impl Strategy<Value = PodDisruptionBudget> {
    use CountOrPercent::{Count, Percent};
    let bound = pick(
        shape,
        &[None, Some(Count(0)), Some(Count(1)), Some(Percent(50))],
        &[Some(Count(-2)), Some(Percent(i32::MAX)), Some(Count(i32::MAX))],
    );
    let metadata = meta(shape, Kind::PodDisruptionBudget, &["b0", "b1"]);
    let selects = sample::select(vec![None, Some("rs0"), Some("rs1"), Some("")]);
    (metadata, bound, any::<bool>(), selects).prop_map(|(metadata, bound, is_least, selects)| {
        let (min_available, max_unavailable) = if is_least { (bound, None) } else { (None, bound) };
        let selector = selects.map(|set| match set {
            "" => LabelSelector::default(),
            set => LabelSelector::from_labels(labels(&[("set", set)])),
        });
        let spec = PodDisruptionBudgetSpec {
            max_unavailable,
            min_available,
            selector,
            ..PodDisruptionBudgetSpec::default()
        };
        PodDisruptionBudget { metadata, spec, ..PodDisruptionBudget::default() }
    })
}

fn lease(shape: Shape) -> impl Strategy<Value = Lease> {
    let seconds = pick(shape, &[None, Some(15)], &[Some(0), Some(i32::MIN), Some(i32::MAX)]);
    let holder = option::of(sample::select(vec!["a", "b"]));
    let renewed = option::of(pick(shape, &[1_699_999_999_123_456], &[i64::MIN, i64::MAX]));
    (meta(shape, Kind::Lease, &["l0", "l1"]), seconds, holder, renewed).prop_map(
        |(metadata, lease_duration_seconds, holder, renewed)| {
            let spec = LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds,
                renew_time: renewed.map(MicroTime::from_micros),
                ..LeaseSpec::default()
            };
            Lease { metadata, spec, ..Lease::default() }
        },
    )
}

fn cluster_role(shape: Shape) -> impl Strategy<Value = ClusterRole> {
    let metadata = meta(shape, Kind::ClusterRole, &["r0", "r1", "r2"]);
    // Each may be a part of others, in circles too.
    let parts =
        (option::of(sample::select(vec!["a", "b"])), option::of(sample::select(vec!["a", "b"])));
    let verbs = vec(sample::select(vec!["get", "list", "*"]), 0..3);
    (metadata, parts, verbs).prop_map(|(mut metadata, (part_of, made_of), verbs)| {
        metadata.labels.extend(part_of.map(|part| ("part".to_owned(), part.to_owned())));
        let aggregation_rule = made_of.map(|part| AggregationRule {
            cluster_role_selectors: vec![LabelSelector::from_labels(labels(&[("part", part)]))],
        });
        let rule = |verb: &str| PolicyRule {
            api_groups: vec![String::new()],
            resources: vec!["pods".to_owned()],
            verbs: vec![verb.to_owned()],
            ..PolicyRule::default()
        };
        let rules = verbs.into_iter().map(rule).collect();
        ClusterRole { aggregation_rule, metadata, rules, ..ClusterRole::default() }
    })
}

fn node(shape: Shape) -> impl Strategy<Value = Node> {
    let ready = option::of(sample::select(vec![
        ConditionStatus::False,
        ConditionStatus::True,
        ConditionStatus::Unknown,
    ]));
    let metadata = meta(shape, Kind::Node, &["n1", "n2", "n3"]);
    let reason = sample::select(vec!["", "NodeStatusUnknown"]);
    let added = option::of(pick(shape, &[1_699_999_000], &[i64::MIN, i64::MAX]));
    let taint = option::of((
        sample::select(vec!["example.org/spare", "node.kubernetes.io/unreachable"]),
        added,
    ));
    (metadata, ready, reason, taint, any::<bool>()).prop_map(
        |(metadata, ready, reason, taint, unschedulable)| {
            let mut node = Node { metadata, ..Node::default() };
            node.spec.unschedulable = unschedulable;
            node.spec.taints.extend(taint.map(|(key, added)| Taint {
                effect: TaintEffect::NoExecute,
                key: key.to_owned(),
                time_added: added.map(Time::from_seconds),
                ..Taint::default()
            }));
            node.status.conditions.extend(ready.map(|status| NodeCondition {
                kind: "Ready".to_owned(),
                reason: reason.to_owned(),
                status,
                ..NodeCondition::default()
            }));
            node
        },
    )
}

fn active_namespace(name: &str) -> Namespace {
    let key = Key::cluster(Kind::Namespace, name);
    let metadata = ObjectMeta { uid: uid_of(&key, 1), ..ObjectMeta::named("", name) };
    let finalizers = vec![NAMESPACE_FINALIZER.to_owned()];
    let spec = NamespaceSpec { finalizers, ..NamespaceSpec::default() };
    Namespace { metadata, spec, ..Namespace::default() }
}

fn namespace(shape: Shape) -> impl Strategy<Value = Namespace> {
    let finalizers = pick(shape, &[true], &[false]);
    let metadata = meta(shape, Kind::Namespace, &["default", "other", "old"]);
    (metadata, finalizers).prop_map(|(metadata, finalizers)| {
        let mut namespace = active_namespace(&metadata.name);
        namespace.metadata = metadata;
        if !finalizers {
            namespace.spec.finalizers.clear();
        }
        namespace
    })
}

fn event() -> impl Strategy<Value = Event> {
    let ago = prop_oneof![Just(None), (0..7200i64).prop_map(Some)];
    (meta(Shape::Sound, Kind::Event, &["e0", "e1", "e2"]), ago).prop_map(|(metadata, ago)| {
        let seen = ago.map(|ago| CLUSTER_NOW.plus_millis(-ago * 1000).to_time());
        Event { metadata, last_timestamp: seen, ..Event::default() }
    })
}
