//! `PodMemory`: what an agent remembers of a pod between looks, and how results of verbs and probes come back.
//!
//! Only what can be lost: counters of probes and failed verbs, and when they happened. All else derives
//! from what the runtime shows and the recorded status.

use std::collections::BTreeMap;

use super::backoff::{restart_delay_ms, verb_retry_ms};
use super::image::pull_policy;
use super::plan::{RuntimeOp, StopReason};
use super::probe::{ProbeKind, ProbeMemory, ProbeResult};
use crate::model::{Container, EventType, ImagePullPolicy, Key, Pod, PodStatus, Timestamp};
use crate::runtime::{ContainerKey, RuntimeError};
use crate::world::EventNote;

/// The longest text of a failure that is kept, in bytes.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 1024;

/// What an agent remembers of a pod. Starts empty, also after a restart of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodMemory {
    /// The status last planned; newer than the pod's own while a write is on its way.
    pub(crate) status: Option<PodStatus>,
    pub(crate) containers: BTreeMap<String, ContainerMemory>,
    /// The number of the next sandbox, at least.
    pub(crate) next_sandbox: u32,
    /// The dead sandbox that was seen last, and since when.
    pub(crate) dead_sandbox: Option<(u32, Timestamp)>,
    /// Trouble with making the sandbox.
    pub(crate) sandbox_trouble: Option<Trouble>,
    /// Trouble with stopping and removing.
    pub(crate) cleanup_trouble: Option<Trouble>,
}

/// What is remembered of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerMemory {
    /// Restarts in a row that led to a run, by the run's number; the newest few.
    pub streaks: BTreeMap<u32, u32>,
    /// When a run was first seen running or ended, for runtimes that do not tell.
    pub running_seen: Option<(u32, Timestamp)>,
    pub ended_seen: Option<(u32, Timestamp)>,
    /// The run whose back-off was told of in an event.
    pub backoff_told: Option<u32>,
    pub image: ImageMemory,
    /// Trouble with making or starting it.
    pub trouble: Option<Trouble>,
    pub liveness: Option<ProbeMemory>,
    pub readiness: Option<ProbeMemory>,
}

/// What is remembered of a container's image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageMemory {
    /// The run for which the image was pulled last.
    pub pulled_for: Option<u32>,
    /// Whether making the container failed for want of the image.
    pub missing: bool,
    pub trouble: Option<Trouble>,
}

/// Failures in a row of one kind of verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub times: u32,
    pub at: Timestamp,
    pub reason: &'static str,
    pub message: String,
    /// Whether trying again can hardly help.
    pub permanent: bool,
}

impl Trouble {
    /// When to try again.
    pub fn retry_at(&self, now: Timestamp) -> Timestamp {
        let delay =
            if self.permanent { restart_delay_ms(self.times) } else { verb_retry_ms(self.times) };
        super::backoff::due_at(self.at, delay, now)
    }

    /// Whether it is too early to try again.
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.retry_at(now)
    }
}

/// How a runtime verb failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpFailure {
    /// It may work later.
    Failed(String),
    /// The image is not there.
    ImageMissing,
    /// It can never work as the pod asks for it.
    Invalid(String),
}

impl OpFailure {
    /// The explanation for people.
    pub fn message(&self) -> &str {
        match self {
            Self::Failed(message) | Self::Invalid(message) => message,
            Self::ImageMissing => "the image is not present",
        }
    }
}

impl From<&RuntimeError> for OpFailure {
    fn from(error: &RuntimeError) -> Self {
        match error {
            RuntimeError::ImageMissing { .. } => Self::ImageMissing,
            RuntimeError::Invalid { message } => Self::Invalid(shortened(message)),
            RuntimeError::Backend { source, .. } | RuntimeError::Unreachable(source) => {
                Self::Failed(shortened(&format!("{error}: {source}")))
            }
            RuntimeError::NotFound { .. } => Self::Failed(error.to_string()),
        }
    }
}

/// Cuts a text to [`FAILURE_MESSAGE_BYTES_MAX`] at a character's border.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(FAILURE_MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl PodMemory {
    /// Takes in what became of a verb, and returns what to tell people about it.
    pub fn record(
        &mut self,
        pod: &Pod,
        op: &RuntimeOp,
        outcome: &Result<(), OpFailure>,
        now: Timestamp,
    ) -> Vec<EventNote> {
        let failed = |slot: &mut Option<Trouble>, reason, failure: &OpFailure| {
            let times = slot.as_ref().map_or(0, |trouble| trouble.times).saturating_add(1);
            let permanent = matches!(failure, OpFailure::Invalid(_));
            let message = failure.message().to_owned();
            *slot = Some(Trouble { times, at: now, reason, message, permanent });
        };
        let warning =
            |reason: &str, message: String| vec![note(pod, EventType::Warning, reason, message)];
        match (op, outcome) {
            (RuntimeOp::CreateSandbox(spec), Ok(())) => {
                self.next_sandbox = self.next_sandbox.max(spec.key.attempt.saturating_add(1));
                self.sandbox_trouble = None;
                Vec::new()
            }
            (RuntimeOp::CreateSandbox(_), Err(failure)) => {
                failed(&mut self.sandbox_trouble, "FailedCreatePodSandBox", failure);
                let message = format!("could not make the pod's sandbox: {}", failure.message());
                warning("FailedCreatePodSandBox", message)
            }
            (RuntimeOp::Pull { container, attempt, image }, outcome) => {
                self.record_pull(pod, container, *attempt, image, outcome, now)
            }
            (RuntimeOp::CreateContainer(spec), outcome) => {
                self.record_create(pod, &spec.key, outcome, now)
            }
            (RuntimeOp::StartContainer(key), Ok(())) => {
                self.container(&key.name).trouble = None;
                let message = format!("started container {}", key.name);
                vec![note(pod, EventType::Normal, "Started", message)]
            }
            (RuntimeOp::StartContainer(key), Err(failure)) => {
                failed(&mut self.container(&key.name).trouble, "RunContainerError", failure);
                let message =
                    format!("could not start container {}: {}", key.name, failure.message());
                warning("Failed", message)
            }
            (RuntimeOp::Stop { containers, reason, .. }, Ok(())) => {
                self.cleanup_trouble = None;
                vec![note(pod, EventType::Normal, "Killing", stopped(containers, *reason))]
            }
            (RuntimeOp::RemoveContainer(_) | RuntimeOp::RemoveSandbox(_), Ok(())) => {
                self.cleanup_trouble = None;
                Vec::new()
            }
            (
                RuntimeOp::RemoveContainer(_)
                | RuntimeOp::RemoveSandbox(_)
                | RuntimeOp::Stop { .. },
                Err(failure),
            ) => {
                failed(&mut self.cleanup_trouble, "FailedKillPod", failure);
                let message = format!("could not stop or remove: {}", failure.message());
                warning("FailedKillPod", message)
            }
        }
    }

    /// Takes in what a check came to, and returns what to tell people about it. Results of earlier runs are ignored.
    pub fn record_probe(
        &mut self,
        pod: &Pod,
        key: &ContainerKey,
        kind: ProbeKind,
        result: &ProbeResult,
    ) -> Vec<EventNote> {
        let Some(spec) = pod.spec.containers.iter().find(|spec| spec.name == key.name) else {
            return Vec::new();
        };
        let memory = self.container(&key.name);
        let (probe, memory) = match kind {
            ProbeKind::Liveness => (&spec.liveness_probe, &mut memory.liveness),
            ProbeKind::Readiness => (&spec.readiness_probe, &mut memory.readiness),
        };
        let (Some(probe), Some(memory)) = (probe, memory) else { return Vec::new() };
        if memory.attempt != key.attempt {
            return Vec::new();
        }
        memory.record(probe, result);
        match result {
            ProbeResult::Success => Vec::new(),
            // What has just started need not be ready; that is no news.
            ProbeResult::Failure(_) if memory.is_eager(probe, kind) => Vec::new(),
            ProbeResult::Failure(message) => {
                let message =
                    format!("{} probe of container {} failed: {message}", kind.name(), key.name);
                vec![note(pod, EventType::Warning, "Unhealthy", message)]
            }
        }
    }

    pub(crate) fn container(&mut self, name: &str) -> &mut ContainerMemory {
        self.containers.entry(name.to_owned()).or_default()
    }

    fn record_pull(
        &mut self,
        pod: &Pod,
        container: &str,
        attempt: u32,
        image: &str,
        outcome: &Result<(), OpFailure>,
        now: Timestamp,
    ) -> Vec<EventNote> {
        let memory = &mut self.container(container).image;
        match outcome {
            Ok(()) => {
                *memory = ImageMemory { pulled_for: Some(attempt), missing: false, trouble: None };
                let message = format!("pulled image {image:?}");
                vec![note(pod, EventType::Normal, "Pulled", message)]
            }
            Err(failure) => {
                memory.fail("ErrImagePull", failure.message(), now);
                let message = format!("could not pull image {image:?}: {}", failure.message());
                vec![note(pod, EventType::Warning, "Failed", message)]
            }
        }
    }

    fn record_create(
        &mut self,
        pod: &Pod,
        key: &ContainerKey,
        outcome: &Result<(), OpFailure>,
        now: Timestamp,
    ) -> Vec<EventNote> {
        let spec = pod.spec.containers.iter().find(|spec| spec.name == key.name);
        let memory = self.container(&key.name);
        let failure = match outcome {
            Ok(()) => {
                memory.trouble = None;
                memory.image.missing = false;
                memory.image.trouble = None;
                return Vec::new();
            }
            Err(failure) => failure,
        };
        let text = if *failure == OpFailure::ImageMissing {
            match image_missing(spec, &mut memory.image, key.attempt, now) {
                Some(text) => text,
                None => return Vec::new(),
            }
        } else {
            let times = memory.trouble.as_ref().map_or(0, |trouble| trouble.times);
            memory.trouble = Some(Trouble {
                times: times.saturating_add(1),
                at: now,
                reason: "CreateContainerError",
                message: failure.message().to_owned(),
                permanent: matches!(failure, OpFailure::Invalid(_)),
            });
            failure.message().to_owned()
        };
        let message = format!("could not make container {}: {text}", key.name);
        vec![note(pod, EventType::Warning, "Failed", message)]
    }
}

/// Notes that an image is missing; returns what to tell people unless it will simply be pulled.
fn image_missing(
    spec: Option<&Container>,
    memory: &mut ImageMemory,
    attempt: u32,
    now: Timestamp,
) -> Option<String> {
    memory.missing = true;
    let image = spec.map_or("", |spec| spec.image.as_str());
    match spec.map(pull_policy).unwrap_or_default() {
        ImagePullPolicy::Never => {
            let text = format!("image {image:?} is not present and imagePullPolicy is Never");
            memory.fail("ErrImageNeverPull", &text, now);
            Some(text)
        }
        ImagePullPolicy::Always | ImagePullPolicy::IfNotPresent => {
            let pulled = memory.pulled_for == Some(attempt);
            pulled.then(|| {
                let text = format!("image {image:?} is not present though it was pulled");
                memory.fail("ErrImagePull", &text, now);
                memory.pulled_for = None;
                text
            })
        }
    }
}

impl ImageMemory {
    fn fail(&mut self, reason: &'static str, message: &str, now: Timestamp) {
        let times = self.trouble.as_ref().map_or(0, |trouble| trouble.times).saturating_add(1);
        let message = message.to_owned();
        self.trouble = Some(Trouble { times, at: now, reason, message, permanent: true });
    }
}

/// Makes something to tell people about a pod.
pub(crate) fn note(pod: &Pod, kind: EventType, reason: &str, message: String) -> EventNote {
    EventNote {
        about: Key::pod(&pod.metadata.namespace, &pod.metadata.name),
        uid: pod.metadata.uid,
        kind,
        reason: reason.to_owned(),
        message,
    }
}

fn stopped(containers: &[ContainerKey], reason: StopReason) -> String {
    let names: Vec<&str> = containers.iter().map(|key| key.name.as_str()).collect();
    let why = match reason {
        StopReason::Changed => "its image was changed",
        StopReason::Deleted => "the pod is being deleted",
        StopReason::Double => "a newer run goes on",
        StopReason::Finished => "the pod is finished",
        StopReason::Liveness => "its liveness probe failed",
    };
    format!("stopped container {}: {why}", names.join(", "))
}
