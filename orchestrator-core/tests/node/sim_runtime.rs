//! The simulated runtime keeps the contract of `Runtime`, as far as it has no shell, files or network.

use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::driver::SystemClock;
use orchestrator_core::runtime::*;
use orchestrator_core::runtime_conformance;
use orchestrator_core::testkit::runtime::RuntimeFixture;
use orchestrator_core::testkit::sim_runtime::*;

#[derive(Debug)]
struct Sim(SimRuntime);

impl Sim {
    fn new() -> Self {
        let runtime = SimRuntime::new(Arc::new(SystemClock));
        runtime.set_program_of(understand);
        Self(runtime)
    }
}

/// Understands the few shell scripts of the suite's clauses that are run here.
fn understand(spec: &ContainerSpec) -> SimProgram {
    let mut program = SimProgram::default();
    if spec.command.first().is_none_or(|program| program != "/bin/sh") {
        program.broken = Some(format!("no such program: {:?}", spec.command));
        return program;
    }
    let script = spec.command.get(2).map_or("", String::as_str);
    program.runs_ms = Some(0);
    // What runs in the background has no part in how a script goes on.
    for command in script.split(';') {
        let command = command.rsplit('&').next().unwrap_or(command).trim();
        match command.split_once(' ').unwrap_or((command, "")) {
            ("echo", text) => program.prints.push(text.to_owned()),
            ("exit", code) => program.exit_code = code.parse().expect("a code"),
            ("sleep", seconds) => {
                program.runs_ms = Some(1000 * seconds.parse::<i64>().expect("seconds"));
            }
            ("while", _) => {
                program.runs_ms = None;
                break;
            }
            ("trap", "'' TERM") => program.on_term = OnTerm::Ignore,
            ("trap", "'exit 0' TERM") => program.on_term = OnTerm::Exit(0),
            _ => {}
        }
    }
    program
}

#[async_trait]
impl RuntimeFixture for Sim {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.0.clone())
    }

    async fn another(&self) -> Arc<dyn Runtime> {
        Arc::new(self.0.clone())
    }

    fn image(&self) -> String {
        "any".to_owned()
    }

    fn port(&self) -> u16 {
        1
    }

    fn listen(&self, _address: &str, _port: u16) -> String {
        String::new()
    }

    fn connect(&self, _address: &str, _port: u16) -> String {
        String::new()
    }

    async fn kill_outside(&self, container: &ContainerObservation) {
        self.0.kill(&container.key, 137);
    }

    async fn assert_nothing_left(&self, scope: &Scope) {
        assert_eq!(self.0.observe(scope), []);
    }
}

runtime_conformance! { @each Sim::new();
    rt1_repeated_verbs_change_nothing
    rt2_another_instance_lists_everything_with_its_keys
    rt3_a_created_container_does_not_run
    rt4_an_ended_container_stays_listed_with_its_code
    rt6_removing_a_sandbox_leaves_nothing
    rt11_what_cannot_start_does_not_run
    rt12_scopes_do_not_see_each_other
    rt13_changed_returns_after_a_container_ends
    rt14_a_container_killed_from_outside_exits_with_137
    rt15_verbs_on_what_does_not_exist_say_so
}
