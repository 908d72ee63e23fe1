//! Deployments and replica sets.

use super::errors::{Errors, Path};
use super::{meta, pod};
use crate::model::{
    CountOrPercent, DeploymentSpec, DeploymentStrategy, FieldError, LabelSelector, PodTemplate,
    ReplicaSetSpec, RestartPolicy, StrategyType,
};

/// The most pods one deployment or replica set may ask for.
pub const REPLICAS_MAX: i32 = 100_000;
/// The most requirements of a selector, and the most values of one.
pub const SELECTOR_TERMS_MAX: usize = 256;

pub(super) fn validate_deployment(spec: &DeploymentSpec, at: &Path<'_>, errors: &mut Errors) {
    replicas(spec.replicas, at, errors);
    selector(&spec.selector, &spec.template, "deployment", at, errors);
    template(&spec.template, at, errors);
    strategy(&spec.strategy, &at.field("strategy"), errors);
    errors.at_least(&at.field("minReadySeconds"), spec.min_ready_seconds, 0);
    if let Some(limit) = spec.revision_history_limit {
        errors.at_least(&at.field("revisionHistoryLimit"), limit, 0);
    }
    if let Some(seconds) = spec.progress_deadline_seconds {
        let at = at.field("progressDeadlineSeconds");
        errors.at_least(&at, seconds, 0);
        if seconds <= spec.min_ready_seconds {
            let right = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid(at, seconds, right));
        }
    }
}

pub(super) fn validate_replica_set(spec: &ReplicaSetSpec, at: &Path<'_>, errors: &mut Errors) {
    replicas(spec.replicas, at, errors);
    selector(&spec.selector, &spec.template, "replica set", at, errors);
    template(&spec.template, at, errors);
    errors.at_least(&at.field("minReadySeconds"), spec.min_ready_seconds, 0);
}

fn replicas(replicas: Option<i32>, at: &Path<'_>, errors: &mut Errors) {
    let Some(replicas) = replicas else { return };
    let at = at.field("replicas");
    errors.at_least(&at, replicas, 0);
    if replicas > REPLICAS_MAX {
        let right = format!("must be less than or equal to {REPLICAS_MAX}");
        errors.push(FieldError::invalid(at, replicas, &right));
    }
}

fn selector(
    selector: &LabelSelector,
    template: &PodTemplate,
    whose: &str,
    at: &Path<'_>,
    errors: &mut Errors,
) {
    let path = at.field("selector");
    meta::selector(selector, &path, errors);
    let labels = &template.metadata.labels;
    if selector.is_empty() {
        let why = format!("an empty selector would take every pod into the {whose}");
        errors.push(FieldError::required(path, &why));
    } else if !selector.matches(labels) {
        // Pods that their own owner does not count would be made without end (S38).
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        errors.push(FieldError::invalid(
            at.field("template").field("metadata").field("labels"),
            labels,
            "`selector` does not match template `labels`",
        ));
    }
}

fn template(template: &PodTemplate, at: &Path<'_>, errors: &mut Errors) {
    let at = at.field("template");
    pod::validate_template(template, &at, errors);
    let policy = template.spec.restart_policy();
    if policy != RestartPolicy::Always {
        let spec = at.field("spec");
        let at = spec.field("restartPolicy");
        errors.push(FieldError::not_supported(at, format!("{policy:?}"), &["Always"]));
    }
}

fn strategy(strategy: &DeploymentStrategy, at: &Path<'_>, errors: &mut Errors) {
    let at_rolling = at.field("rollingUpdate");
    match (strategy.kind.unwrap_or_default(), &strategy.rolling_update) {
        (StrategyType::Recreate, Some(_)) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(at_rolling, why));
        }
        (StrategyType::RollingUpdate, Some(bounds)) => {
            let at = at_rolling;
            let unavailable = bounds.max_unavailable.unwrap_or(CountOrPercent::Percent(25));
            let surge = bounds.max_surge.unwrap_or(CountOrPercent::Percent(25));
            bound(surge, &at.field("maxSurge"), errors);
            let at = at.field("maxUnavailable");
            bound(unavailable, &at, errors);
            if matches!(unavailable, CountOrPercent::Percent(percent) if percent > 100) {
                let right = "must not be greater than 100%";
                errors.push(FieldError::invalid(at, unavailable.to_string(), right));
            }
            if amount(surge) == 0 && amount(unavailable) == 0 {
                let right = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(at, json(unavailable), right));
            }
        }
        (StrategyType::Recreate | StrategyType::RollingUpdate, None) => {}
    }
}

pub(super) fn bound(bound: CountOrPercent, at: &Path<'_>, errors: &mut Errors) {
    if amount(bound) < 0 {
        errors.push(FieldError::invalid(at, json(bound), "must be greater than or equal to 0"));
    }
}

const fn amount(bound: CountOrPercent) -> i32 {
    match bound {
        CountOrPercent::Count(amount) | CountOrPercent::Percent(amount) => amount,
    }
}

fn json(bound: CountOrPercent) -> serde_json::Value {
    match bound {
        CountOrPercent::Count(count) => count.into(),
        CountOrPercent::Percent(_) => bound.to_string().into(),
    }
}
