//! What responses are to be told, from the time their requests passed.

use gate::LimitReport;

/// Where a ring begins, and how far it grows, in places of 32 bytes.
const FIRST: usize = 256;
const LAST: usize = 65_536;

/// A passed request whose response is not yet here.
#[derive(Clone, Copy)]
struct Pending {
    context: u32,
    root: u32,
    report: LimitReport,
}

/// Reports by request. Contexts are numbered upwards, so a place is a number's last bits; a
/// request that ends without a response leaves its place to a later one. When one that may still
/// be waited for would be overwritten the ring doubles; at its end, which takes 65 536 requests
/// at once, a response goes without its headers.
pub(crate) struct Responses {
    ring: Vec<Option<Pending>>,
}

impl Responses {
    pub(crate) fn new() -> Self {
        Self { ring: vec![None; FIRST] }
    }

    pub(crate) fn expect(&mut self, context: u32, root: u32, report: LimitReport) {
        while self.place(context).is_some_and(|place| place.is_some()) && self.ring.len() < LAST {
            self.double();
        }
        if let Some(place) = self.place(context) {
            *place = Some(Pending { context, root, report });
        }
    }

    /// The report for a response, and the root context that it belongs to.
    pub(crate) fn take(&mut self, context: u32) -> Option<(u32, LimitReport)> {
        let place = self.place(context)?;
        let pending = place.filter(|pending| pending.context == context)?;
        *place = None;
        Some((pending.root, pending.report))
    }

    fn place(&mut self, context: u32) -> Option<&mut Option<Pending>> {
        let mask = self.ring.len().checked_sub(1)?;
        self.ring.get_mut(usize::try_from(context).ok()? & mask)
    }

    fn double(&mut self) {
        let longer = vec![None; self.ring.len() * 2];
        let old = std::mem::replace(&mut self.ring, longer);
        for pending in old.into_iter().flatten() {
            if let Some(place) = self.place(pending.context) {
                *place = Some(pending);
            }
        }
    }
}
