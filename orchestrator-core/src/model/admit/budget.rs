//! Pod disruption budgets.

use super::errors::{Errors, Path};
use super::{meta, workload};
use crate::model::{CountOrPercent, FieldError, PodDisruptionBudgetSpec};

pub(super) fn validate(spec: &PodDisruptionBudgetSpec, at: &Path<'_>, errors: &mut Errors) {
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::forbidden(at.field("maxUnavailable"), why));
    }
    for (field, bound) in
        [("minAvailable", spec.min_available), ("maxUnavailable", spec.max_unavailable)]
    {
        let Some(bound) = bound else { continue };
        let at = at.field(field);
        workload::bound(bound, &at, errors);
        if matches!(bound, CountOrPercent::Percent(percent) if percent > 100) {
            let right = "must not be greater than 100%";
            errors.push(FieldError::invalid(at, bound.to_string(), right));
        }
    }
    if let Some(selector) = &spec.selector {
        meta::selector(selector, &at.field("selector"), errors);
    }
}
