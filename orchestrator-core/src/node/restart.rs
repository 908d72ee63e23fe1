//! The part of a plan that decides, for each container, whether it starts, waits, runs or is over.

use super::backoff::{due_at, ran_well, restart_delay_ms};
use super::lifecycle::{Ended, Last, Runs};
use super::memory::note;
use super::plan::PULL_ERROR_SHOWN_MS;
use super::planner::Planner;
use super::status::Waiting;
use crate::model::{EventType, RestartPolicy, StateTerminated, Timestamp};
use crate::runtime::ContainerKey;

/// What to do about one container.
pub(super) enum Step {
    /// Make and start the next run, after so many restarts in a row.
    Begin { streak: u32 },
    /// It ended for good.
    Over,
    /// It runs.
    Running,
    /// Start what is made.
    Start(ContainerKey),
    /// Wait.
    Wait { until: Timestamp, shown: Waiting },
}

impl Planner<'_> {
    pub(super) fn step(&mut self, runs: &mut Runs<'_>) -> Step {
        let now = self.input.now;
        let policy = self.input.pod.spec.restart_policy();
        self.give_up(runs, policy);
        let streak = match &runs.last {
            Last::Running(_) => return Step::Running,
            Last::Created(key) => {
                let trouble = self.trouble(runs);
                return trouble.unwrap_or_else(|| Step::Start(key.clone()));
            }
            Last::Absent => 0,
            Last::Ended(ended) => {
                // As in Kubernetes, a changed image starts again at once and whatever the policy.
                let changed = runs.has_other_image();
                let again = match policy {
                    _ if changed => true,
                    RestartPolicy::Always => true,
                    RestartPolicy::Never => false,
                    RestartPolicy::OnFailure => ended.state.exit_code != 0,
                };
                if !again {
                    return Step::Over;
                }
                let streak = if changed { 0 } else { self.streak(runs, ended) };
                let delay_ms = restart_delay_ms(streak);
                let until = due_at(self.ended_at(runs, ended), delay_ms, now);
                if now < until {
                    self.tell_backoff(runs, ended, delay_ms);
                    return Step::Wait { until, shown: crash_loop(runs, delay_ms) };
                }
                streak.saturating_add(1)
            }
        };
        self.trouble(runs).unwrap_or(Step::Begin { streak })
    }

    /// A container that can never start ends a pod that is not to be restarted.
    pub(super) fn give_up(&self, runs: &mut Runs<'_>, policy: RestartPolicy) {
        let memory = self.plan.memory.containers.get(&runs.spec.name);
        let trouble = memory.and_then(|memory| memory.trouble.as_ref());
        let never_ran = matches!(runs.last, Last::Absent | Last::Created(_));
        if let Some(trouble) = trouble
            .filter(|trouble| trouble.permanent && never_ran && policy == RestartPolicy::Never)
        {
            let time = trouble.at.to_time();
            runs.last = Last::Ended(Ended {
                attempt: runs.attempt().unwrap_or(0),
                image: runs.spec.image.clone(),
                image_id: String::new(),
                state: StateTerminated {
                    exit_code: 128,
                    finished_at: Some(time),
                    message: trouble.message.clone(),
                    reason: "StartError".to_owned(),
                    started_at: Some(time),
                    ..StateTerminated::default()
                },
            });
        }
    }

    /// Returns what holds a container back: its image, or a verb that failed a moment ago.
    pub(super) fn trouble(&mut self, runs: &Runs<'_>) -> Option<Step> {
        let now = self.input.now;
        let memory = self.plan.memory.containers.get(&runs.spec.name)?;
        if let Some(trouble) = memory.image.trouble.as_ref().filter(|found| found.holds(now)) {
            let shown_until = trouble.at.plus_millis(PULL_ERROR_SHOWN_MS);
            let is_pull = trouble.reason == "ErrImagePull";
            let (reason, until) = if is_pull && now >= shown_until {
                ("ImagePullBackOff", trouble.retry_at(now))
            } else if is_pull {
                (trouble.reason, shown_until.min(trouble.retry_at(now)))
            } else {
                (trouble.reason, trouble.retry_at(now))
            };
            return Some(Step::Wait { until, shown: Waiting::new(reason, &trouble.message) });
        }
        let trouble = memory.trouble.as_ref().filter(|found| found.holds(now))?;
        let shown = Waiting::new(trouble.reason, &trouble.message);
        Some(Step::Wait { until: trouble.retry_at(now), shown })
    }

    /// How many restarts in a row led to a run that ended. What the runs told once is kept: they tell less when
    /// the status has moved on.
    pub(super) fn streak(&mut self, runs: &Runs<'_>, ended: &Ended) -> u32 {
        if ran_well(&ended.state) {
            return 0;
        }
        let memory = self.plan.memory.container(&runs.spec.name);
        *memory.streaks.entry(ended.attempt).or_insert_with(|| runs.streak())
    }

    pub(super) fn ended_at(&mut self, runs: &Runs<'_>, ended: &Ended) -> Timestamp {
        if let Some(time) = ended.state.finished_at {
            return time.to_timestamp();
        }
        let now = self.input.now;
        let seen = &mut self.plan.memory.container(&runs.spec.name).ended_seen;
        match seen {
            Some((attempt, at)) if *attempt == ended.attempt => *at,
            Some(_) | None => {
                *seen = Some((ended.attempt, now));
                now
            }
        }
    }

    pub(super) fn tell_backoff(&mut self, runs: &Runs<'_>, ended: &Ended, delay_ms: i64) {
        let told = &mut self.plan.memory.container(&runs.spec.name).backoff_told;
        if *told != Some(ended.attempt) {
            *told = Some(ended.attempt);
            let message = crash_loop(runs, delay_ms).message;
            let event = note(self.input.pod, EventType::Warning, "BackOff", message);
            self.plan.events.push(event);
        }
    }
}

fn crash_loop(runs: &Runs<'_>, delay_ms: i64) -> Waiting {
    let seconds = delay_ms / 1000;
    let message = format!("back-off {seconds}s before container {} starts again", runs.spec.name);
    Waiting::new("CrashLoopBackOff", &message)
}
