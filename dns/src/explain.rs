//! Why a question is answered as it is, for people. Answers nothing itself: the slow path tells as it goes.

use hickory_proto::op::Query;
use model::{Name, TenantId};

use crate::answer::check_kind;
use crate::lookup::look_up;
use crate::node::kind;
use crate::rcode::Rcode;
use crate::rule::Rule;
use crate::tenants::{Part, Sight};
use crate::wire::{self, Sought, wire_name};

/// What is said to a question, and by which rules, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What the answer says.
    pub code: Rcode,
    /// From whose zone it comes. `None` where it is refused.
    pub tenant: Option<TenantId>,
    /// Each as a line, by its `Display`.
    pub rules: Vec<Rule>,
}

/// Asks for a name as somebody who sees these zones.
pub(crate) fn explain(sight: Option<Sight<'_>>, name: &Name, number: u16) -> Explanation {
    let alone = |code, rule| Explanation { code, tenant: None, rules: vec![rule] };
    let refused = |rule| alone(Rcode::Refused, rule);
    let Some(sight) = sight else { return refused(Rule::Stranger) };
    if let Err(code) = check_kind(number) {
        let is_transfer = matches!(number, kind::AXFR | kind::IXFR);
        return alone(code, if is_transfer { Rule::Transfer } else { Rule::NoType });
    }
    let sought = Sought::of_wire(&wire::of_name(name));
    let Some(spot) = sight.spot(&sought) else { return refused(Rule::Foreign { name: name.to_string() }) };
    let zone = match spot.part {
        Part::Names => {
            Rule::Zone { origin: spot.view.origin().name.to_string(), own: sight.is_own(spot.tenant) }
        }
        Part::Addresses(_, labels) => Rule::Block { apex: sought.text(sought.labels() - labels) },
    };
    let mut rules = vec![zone];
    let question = Query::query(wire_name(name), number.into());
    let outcome = look_up(&spot, &question, sought, Some(&mut rules));
    Explanation { code: outcome.code, tenant: Some(spot.tenant), rules }
}
