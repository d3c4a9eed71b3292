//! Where a request's trace is shown. Pure; knows the form of ids and of the setting, not whether there is such a trace.

use telemetry::traces::trace_of_request_id;

/// Why there is no link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoLink {
    /// `admin.console.trace_url` is not set.
    NotSet,
    /// That is neither a request's id nor a trace's.
    NoId,
}

/// The address for this request id (or trace id, 32 hexadecimal digits), from the template that is set.
pub(super) fn trace_link(template: &str, id: &str) -> Result<String, NoLink> {
    if template.is_empty() {
        return Err(NoLink::NotSet);
    }
    let id = id.trim();
    let hex = |id: &str| id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit());
    let trace = match trace_of_request_id(id) {
        Some(trace) => format!("{trace:032x}"),
        None if hex(id) => id.to_ascii_lowercase(),
        None => return Err(NoLink::NoId),
    };
    // Both are letters and digits only.
    let link = template.replace("{trace_id}", &trace);
    Ok(link.replace("{request_id}", id))
}

#[cfg(test)]
mod tests {
    use mesh::TraceContext;
    use telemetry::traces::request_id;

    use super::*;

    #[test]
    fn a_request_id_leads_to_its_trace() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let context = TraceContext::new(&format!("00-{trace}-00f067aa0ba902b7-01"));
        let id = String::from_utf8(request_id(context).to_vec()).unwrap();
        let jaeger = "http://jaeger:16686/trace/{trace_id}";
        let link = format!("http://jaeger:16686/trace/{trace}");
        assert_eq!(trace_link(jaeger, &format!(" {id} ")), Ok(link.clone()));
        assert_eq!(trace_link(jaeger, &trace.to_uppercase()), Ok(link));
        let own = trace_link("http://own/?id={request_id}", &id);
        assert_eq!(own, Ok(format!("http://own/?id={id}")));
        for wrong in ["", "ABC", "../../etc", &id[1..], &trace[1..]] {
            assert_eq!(trace_link(jaeger, wrong), Err(NoLink::NoId), "{wrong}");
        }
        assert_eq!(trace_link("", &id), Err(NoLink::NotSet));
    }
}
