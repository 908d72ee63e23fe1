//! Builders: the short way to write objects in Rust. A builder is the object itself.

use std::sync::Arc;

use super::{
    Container, ContainerPort, Deployment, DeploymentSpec, EnvVar, LabelSelector, ObjectMeta, Pod,
    PodSpec, PodTemplate, Quantity,
};

impl Container {
    /// Makes a container of an image.
    pub fn new(name: &str, image: &str) -> Self {
        Self { name: name.to_owned(), image: image.to_owned(), ..Self::default() }
    }

    /// Sets program and arguments.
    #[must_use]
    pub fn command<const N: usize>(mut self, command: [&str; N]) -> Self {
        self.command = command.map(str::to_owned).to_vec();
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(EnvVar { name: name.to_owned(), value: value.to_owned() });
        self
    }

    /// Names a port the program listens on.
    #[must_use]
    pub fn port(mut self, container_port: i32) -> Self {
        self.ports.push(ContainerPort { container_port, ..ContainerPort::default() });
        self
    }

    /// Requests thousandths of a CPU and bytes of memory.
    #[must_use]
    pub fn requests(mut self, cpu_milli: i64, memory_bytes: i64) -> Self {
        self.resources.requests.insert("cpu".to_owned(), Quantity::from_milli(cpu_milli));
        self.resources.requests.insert("memory".to_owned(), Quantity::from_bytes(memory_bytes));
        self
    }
}

impl Pod {
    /// Makes a pod of these containers in the namespace `default`.
    pub fn of(name: &str, containers: Vec<Container>) -> Self {
        let spec = Arc::new(PodSpec { containers, ..PodSpec::default() });
        Self { metadata: ObjectMeta::named("default", name), spec, ..Self::default() }
    }
}

impl Deployment {
    /// Makes a deployment of one pod with one container, labelled `app=<name>`, in the namespace `default`.
    pub fn new(name: &str, image: &str) -> Self {
        Self::of(name, vec![Container::new(name, image)])
    }

    /// Makes a deployment of pods of these containers, labelled `app=<name>`, in the namespace `default`.
    pub fn of(name: &str, containers: Vec<Container>) -> Self {
        let labels: super::StringMap = [("app".to_owned(), name.to_owned())].into();
        let template = PodTemplate {
            metadata: ObjectMeta { labels: labels.clone(), ..ObjectMeta::default() },
            spec: Arc::new(PodSpec { containers, ..PodSpec::default() }),
        };
        Self {
            metadata: ObjectMeta { labels: labels.clone(), ..ObjectMeta::named("default", name) },
            spec: DeploymentSpec {
                selector: LabelSelector::from_labels(labels),
                template,
                ..DeploymentSpec::default()
            },
            ..Self::default()
        }
    }

    /// Sets the number of pods.
    #[must_use]
    pub const fn replicas(mut self, replicas: i32) -> Self {
        self.spec.replicas = Some(replicas);
        self
    }

    /// Sets the namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.metadata.namespace = namespace.to_owned();
        self
    }

    /// Whether the newest template's pods are all there and available, as far as the status has seen.
    pub fn is_available(&self) -> bool {
        let wanted = self.spec.replicas.unwrap_or(1);
        self.status.observed_generation >= self.metadata.generation
            && self.status.updated_replicas >= wanted
            && self.status.available_replicas >= wanted
            && self.status.replicas == wanted
    }
}
