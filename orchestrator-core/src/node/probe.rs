//! Probes as data: when a check is due, and what its results mean.
//!
//! The shell does the checks; results come back through [`PodMemory::record_probe`](super::PodMemory::record_probe).

use super::backoff::doubled;
use crate::model::{Container, Probe, Timestamp};
use crate::runtime::ContainerKey;

/// A container that was not ready yet is checked again after this long, in milliseconds, doubling up to the probe's
/// period: what has just started is often ready much sooner than a period later.
pub const READINESS_EAGER_FIRST_MS: i64 = 100;

/// Which probe of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Failing restarts the container.
    Liveness,
    /// Failing takes the pod out of the ready set.
    Readiness,
}

impl ProbeKind {
    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// A check that is due now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeDue {
    /// The container.
    pub container: ContainerKey,
    /// Which of its probes.
    pub kind: ProbeKind,
    /// What to do.
    pub check: ProbeCheck,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
}

/// What a check does; ports and hosts are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeCheck {
    /// Runs a program in the container; exit code 0 is success.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// Fetches a page; a status from 200 to 399 is success.
    HttpGet {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The path and query.
        path: String,
        /// Headers to send, names and values.
        headers: Vec<(String, String)>,
    },
    /// Cannot be done; always fails, with this explanation.
    Impossible {
        /// Why.
        message: String,
    },
    /// Connects to a port.
    TcpSocket {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It failed; the text says how.
    Failure(String),
    /// It succeeded.
    Success,
}

/// What is remembered of one probe of one run of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProbeMemory {
    /// The run it is about.
    pub attempt: u32,
    /// When the last check began.
    pub last_begun: Option<Timestamp>,
    /// Whether a check is being done.
    pub in_flight: bool,
    /// Successes in a row.
    pub successes: u32,
    /// Failures in a row.
    pub failures: u32,
    /// The verdict; `None` before thresholds were reached for the first time.
    pub passing: Option<bool>,
    /// Whether the verdict was ever a pass.
    pub passed: bool,
}

impl ProbeMemory {
    /// Starts over for another run; a verdict may be carried on from before a restart of the agent.
    pub fn for_attempt(attempt: u32, passing: Option<bool>) -> Self {
        Self { attempt, passing, passed: passing == Some(true), ..Self::default() }
    }

    /// Takes in a result. Returns whether the verdict changed.
    pub fn record(&mut self, probe: &Probe, result: &ProbeResult) -> bool {
        self.in_flight = false;
        let before = self.passing;
        match result {
            ProbeResult::Success => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.successes >= threshold(probe.success_threshold, 1) {
                    self.passing = Some(true);
                    self.passed = true;
                }
            }
            ProbeResult::Failure(_) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= threshold(probe.failure_threshold, 3) {
                    self.passing = Some(false);
                }
            }
        }
        self.passing != before
    }

    /// Returns when the next check is due, for a container that runs since `running_since`.
    pub fn due_at(&self, probe: &Probe, kind: ProbeKind, running_since: Timestamp) -> Timestamp {
        match self.last_begun {
            None => running_since.plus_millis(seconds_ms(probe.initial_delay_seconds, 0, 0)),
            Some(begun) => begun.plus_millis(self.interval_ms(probe, kind)),
        }
    }

    /// Whether checks come more often than the probe's period, because the container was not ready yet.
    pub fn is_eager(&self, probe: &Probe, kind: ProbeKind) -> bool {
        self.interval_ms(probe, kind) < period_ms(probe)
    }

    fn interval_ms(&self, probe: &Probe, kind: ProbeKind) -> i64 {
        let waits_for_first = kind == ProbeKind::Readiness && !self.passed && self.failures > 0;
        match waits_for_first {
            true => doubled(READINESS_EAGER_FIRST_MS, self.failures - 1, period_ms(probe)),
            false => period_ms(probe),
        }
    }
}

/// Returns what to check, with named ports and the pod's address filled in.
pub(crate) fn check_of(probe: &Probe, container: &Container, pod_ip: &str) -> ProbeCheck {
    let impossible = |message: String| ProbeCheck::Impossible { message };
    let host_or_pod = |host: &str| if host.is_empty() { pod_ip } else { host }.to_owned();
    let port_of = |port: &crate::model::PortOrName| {
        let number = port.resolve(container).and_then(|port| u16::try_from(port).ok());
        number.filter(|port| *port != 0)
    };
    if let Some(exec) = &probe.exec {
        return ProbeCheck::Exec { command: exec.command.clone() };
    }
    if let Some(get) = &probe.http_get {
        if get.scheme.eq_ignore_ascii_case("https") {
            return impossible(
                "httpGet.scheme HTTPS is not done yet: use HTTP or tcpSocket".to_owned(),
            );
        }
        let Some(port) = port_of(&get.port) else {
            return impossible(format!("httpGet.port {} is no port of the container", get.port));
        };
        let path = match get.path.as_str() {
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        let headers = get.http_headers.iter();
        let headers = headers.map(|header| (header.name.clone(), header.value.clone())).collect();
        return ProbeCheck::HttpGet { host: host_or_pod(&get.host), port, path, headers };
    }
    if let Some(tcp) = &probe.tcp_socket {
        return match port_of(&tcp.port) {
            Some(port) => ProbeCheck::TcpSocket { host: host_or_pod(&tcp.host), port },
            None => impossible(format!("tcpSocket.port {} is no port of the container", tcp.port)),
        };
    }
    impossible("a probe needs exec, httpGet or tcpSocket".to_owned())
}

/// Returns how long a check may take, in milliseconds.
pub(crate) fn timeout_ms(probe: &Probe) -> u64 {
    u64::try_from(seconds_ms(probe.timeout_seconds, 1, 1)).unwrap_or(1000)
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
}

fn period_ms(probe: &Probe) -> i64 {
    seconds_ms(probe.period_seconds, 10, 1)
}

fn seconds_ms(value: Option<i32>, default: i64, min: i64) -> i64 {
    value.map_or(default, i64::from).max(min).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HttpGetAction, PortOrName};

    fn failure() -> ProbeResult {
        ProbeResult::Failure("no".to_owned())
    }

    #[test]
    fn a_verdict_needs_its_threshold_in_a_row() {
        let probe =
            Probe { failure_threshold: Some(2), success_threshold: Some(2), ..Probe::default() };
        let mut memory = ProbeMemory::default();
        let verdicts: Vec<Option<bool>> = [
            ProbeResult::Success,
            failure(),
            ProbeResult::Success,
            ProbeResult::Success,
            failure(),
            failure(),
        ]
        .iter()
        .map(|result| {
            memory.record(&probe, result);
            memory.passing
        })
        .collect();
        assert_eq!(verdicts, [None, None, None, Some(true), Some(true), Some(false)]);
    }

    #[test]
    fn checks_begin_after_the_initial_delay_and_recur_with_the_period() {
        let probe =
            Probe { initial_delay_seconds: Some(5), period_seconds: Some(3), ..Probe::default() };
        let mut memory = ProbeMemory::default();
        let since = Timestamp::from_millis(1000);
        assert_eq!(memory.due_at(&probe, ProbeKind::Liveness, since), Timestamp::from_millis(6000));
        memory.last_begun = Some(Timestamp::from_millis(6100));
        assert_eq!(memory.due_at(&probe, ProbeKind::Liveness, since), Timestamp::from_millis(9100));
    }

    #[test]
    fn what_was_not_ready_yet_is_checked_sooner_than_its_period() {
        let probe = Probe { period_seconds: Some(1), ..Probe::default() };
        let mut memory = ProbeMemory::default();
        let interval = |memory: &ProbeMemory| memory.interval_ms(&probe, ProbeKind::Readiness);
        let mut intervals = Vec::new();
        for _ in 0..6 {
            memory.record(&probe, &failure());
            intervals.push(interval(&memory));
        }
        assert_eq!(intervals, [100, 200, 400, 800, 1000, 1000]);
        assert!(!memory.is_eager(&probe, ProbeKind::Readiness));
        memory.record(&probe, &ProbeResult::Success);
        memory.record(&probe, &failure());
        assert_eq!(interval(&memory), 1000, "only before it was ready");
        assert_eq!(ProbeMemory::default().interval_ms(&probe, ProbeKind::Liveness), 1000);
    }

    #[test]
    fn a_page_is_fetched_from_the_pod_by_the_port_s_name() {
        let mut container = Container::new("main", "x:1").port(8080);
        container.ports[0].name = "web".to_owned();
        let get = HttpGetAction {
            port: PortOrName::Name("web".to_owned()),
            path: "healthz".to_owned(),
            ..HttpGetAction::default()
        };
        let probe = Probe { http_get: Some(get), ..Probe::default() };
        let expected = ProbeCheck::HttpGet {
            host: "10.0.0.7".to_owned(),
            port: 8080,
            path: "/healthz".to_owned(),
            headers: Vec::new(),
        };
        assert_eq!(check_of(&probe, &container, "10.0.0.7"), expected);
        container.ports.clear();
        assert!(matches!(
            check_of(&probe, &container, "10.0.0.7"),
            ProbeCheck::Impossible { message } if message.contains("web")
        ));
    }
}
