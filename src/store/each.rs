//! What several stores do alike: one answer for each location, and the word on a write that found another version.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};

use super::{Loaded, Location, StoreError, Version};
use crate::credential::Material;

/// Questions under way at once where locations are asked for one by one.
const AT_ONCE: usize = 4;

/// The version of each location, in order: as it was told for all of them at once, or asked for one by one where nothing
/// was told. Where the telling failed, that is the answer for each.
pub(super) async fn versions<'a, F>(
    at: &'a [Location],
    told: Result<HashMap<String, Result<Version, StoreError>>, StoreError>,
    ask: impl Fn(&'a Location) -> F,
) -> Vec<Result<Version, StoreError>>
where
    F: Future<Output = Result<Version, StoreError>>,
{
    let told = match told {
        Ok(told) => told,
        Err(error) => return at.iter().map(|_| Err(error.clone())).collect(),
    };
    let asks: Vec<_> = at
        .iter()
        .map(|at| {
            let (told, asked) = (told.get(at.split().0).cloned(), ask(at));
            async move {
                match told {
                    Some(told) => told,
                    None => asked.await,
                }
            }
        })
        .collect();
    stream::iter(asks).buffered(AT_ONCE).collect().await
}

/// After a write that found another version than it expected: is it this very value, written by an attempt before?
pub(super) fn written_before(now: Loaded, material: &Material, at: &Location) -> Result<Version, StoreError> {
    if now.material == *material { Ok(now.version) } else { Err(StoreError::Conflict { path: at.0.clone() }) }
}
