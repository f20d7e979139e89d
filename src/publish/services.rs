//! The credentials of each service that are offered by use, the narrowest first. A look-up takes no lock.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use super::{Edition, Offer, Slot, Subscriber};

type Offered = Vec<(Arc<Offer>, Arc<Slot>)>;

/// Only what somebody offered by hand stands here, so that copying a service's list is cheap.
#[derive(Default)]
pub(super) struct Services {
    by_name: ArcSwap<HashMap<String, Offered>>,
    writer: Mutex<()>,
}

impl Services {
    /// A credential is offered so from now on, or no longer.
    pub fn place(&self, slot: &Arc<Slot>, before: Option<&Offer>, after: Option<&Arc<Offer>>) {
        if before == after.map(AsRef::as_ref) {
            return;
        }
        let _one_writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut services = HashMap::clone(&self.by_name.load());
        if let Some(offered) = before.and_then(|before| services.get_mut(&before.service)) {
            offered.retain(|(_, known)| !Arc::ptr_eq(known, slot));
        }
        if let Some(offer) = after {
            let offered = services.entry(offer.service.clone()).or_default();
            offered.push((offer.clone(), slot.clone()));
            // By name where two are equally narrow: the settings do not allow it for one reader.
            offered.sort_by_cached_key(|(offer, slot)| (offer.breadth(), slot.current().view.name.clone()));
        }
        services.retain(|_, offered| !offered.is_empty());
        self.by_name.store(Arc::new(services));
    }
}

impl Subscriber {
    /// The place of the narrowest credential of a service that may be used for all of these and that the caller may read.
    ///
    /// Whether it works now is no matter: a reader of one credential never slips into a more powerful one.
    pub fn narrowest(
        &self,
        service: &str,
        asked: &[Cow<'_, str>],
        may_read: impl Fn(&Edition) -> bool,
    ) -> Option<Arc<Slot>> {
        let services = self.0.services.by_name.load();
        let fits = |(offer, slot): &&(Arc<Offer>, Arc<Slot>)| offer.covers(asked) && may_read(&slot.current());
        services.get(service)?.iter().find(fits).map(|(_, slot)| slot.clone())
    }
}
