//! Scopes that a credential needs and that its provider does not grant (RF-34, FM-11).

use jiff::Timestamp;

use super::{Assignment, Watched};
use crate::{
    catalogue::{ScopeGap, scopes},
    credential::Material,
    ledger::{Fact, FactChange},
};

/// The kind of the page.
const SCOPE_REDUCED: &str = "scope_reduced";

/// What is needed and not granted; nothing where nobody tells what is granted.
fn missing(assignment: &Assignment, material: &Material) -> Vec<String> {
    // A cut may do less on purpose.
    let granted = material.scope.as_deref().filter(|_| assignment.whole.is_none()).map(scopes);
    granted.map(|granted| ScopeGap::between(&assignment.scopes, &granted).missing).unwrap_or_default()
}

impl Watched {
    /// It lacks a scope that it needs.
    pub fn is_reduced(&self) -> bool {
        self.material.as_ref().is_some_and(|material| !missing(&self.assignment, material).is_empty())
    }
}

/// What on-call is told of the scopes of this value; what holds already changes nothing.
pub(super) fn fact(assignment: &Assignment, material: &Material, at: Timestamp) -> Fact {
    let (name, provider) = (&assignment.id, &assignment.provider.name);
    let lacks = missing(assignment, material).join(", ");
    let change = if lacks.is_empty() {
        FactChange::Clear { why: "it has the scopes that it needs".to_owned() }
    } else {
        FactChange::Raise {
            severity: "warning".to_owned(),
            summary: format!("{name}: {provider} does not grant {lacks}, which it needs"),
            body: format!(
                "Credential: {name}\nProvider: {provider}\nHome store: {}\nEvidence: granted are: {}\n\
                 Tried: The token is served; calls that need the missing scope will be refused.\n\
                 To mend it: grant {lacks} at {provider} and authorise again, or take it out of `scopes` of \
                 [credentials.{name}]\n",
                assignment.store_name,
                material.scope.as_deref().unwrap_or_default(),
            ),
        }
    };
    Fact { kind: SCOPE_REDUCED.to_owned(), credential: name.to_string(), group: provider.clone(), change, at }
}

/// What a new value may do that the old one could not, or no longer, in words for the audit log.
pub(super) fn difference(before: Option<&str>, after: Option<&str>) -> Option<String> {
    let (before, after) = (scopes(before?), scopes(after?));
    let words = [("more scopes", after.difference(&before)), ("fewer scopes", before.difference(&after))];
    let told = words.into_iter().filter_map(|(what, scopes)| {
        let scopes: Vec<&str> = scopes.map(String::as_str).collect();
        (!scopes.is_empty()).then(|| format!("{what}: {}", scopes.join(", ")))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}
