//! Epochs together with the plan that they borrow from, for whoever keeps both.

use std::sync::Arc;

use self_cell::self_cell;

use super::reader::Plan;
use crate::batches::epochs::{Epoch, Epochs};
use crate::kit::error::Result;

self_cell!(
    struct Held {
        owner: Arc<Plan>,
        #[covariant]
        dependent: Epochs,
    }
);

self_cell!(
    struct HeldEpoch {
        owner: Arc<Held>,
        #[covariant]
        dependent: Epoch,
    }
);

/// What all epochs of a plan share, and the plan.
#[derive(Clone)]
pub struct Dealer(Arc<Held>);

/// One epoch, and the plan.
#[derive(Clone)]
pub struct Dealt(Arc<HeldEpoch>);

impl Dealer {
    /// See [`Plan::epochs`].
    pub fn new(plan: Arc<Plan>) -> Result<Dealer> {
        Ok(Dealer(Arc::new(Held::try_new(plan, |plan| plan.epochs())?)))
    }

    pub fn plan(&self) -> &Arc<Plan> {
        self.0.borrow_owner()
    }

    pub fn epochs(&self) -> &Epochs<'_> {
        self.0.borrow_dependent()
    }

    /// See [`Epochs::epoch`].
    pub fn epoch(&self, epoch: u32, size: u64) -> Dealt {
        Dealt(Arc::new(HeldEpoch::new(self.0.clone(), |held| held.borrow_dependent().epoch(epoch, size))))
    }
}

impl Dealt {
    pub fn epoch(&self) -> &Epoch<'_> {
        self.0.borrow_dependent()
    }
}
