#!/usr/bin/env python3
"""Writes the Grafana dashboards: observability/grafana/make.py [FOLDER]. The JSON beside this file is what it wrote; import that."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def rate(name, by, more=""):
    return f"sum by ({by}) (rate({name}{{{more}}}[$__rate_interval]))"


def quantile(share, name, by):
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({name}_bucket[$__rate_interval])))"


# Title, unit, and (legend, query) pairs; one row of two panels after the other.
MESH = [
    ("Messages dropped, by reason", "ops", [
        ("slow consumer", 'sum(rate(evenkeel_mesh_slow_consumer_dropped_total{service=~"$service"}[$__rate_interval]))'),
        ("past their deadline", 'sum(rate(evenkeel_mesh_expired_dropped_total{service=~"$service"}[$__rate_interval]))'),
        ("stale", 'sum(rate(evenkeel_mesh_stale_dropped_total{service=~"$service"}[$__rate_interval]))'),
        ("replies", 'sum(rate(evenkeel_mesh_replies_dropped_total{service=~"$service"}[$__rate_interval]))'),
    ]),
    ("Bus: bytes queued, calls under way", "short", [
        ("bytes queued", 'sum(evenkeel_mesh_bytes_queued{service=~"$service"})'),
        ("calls in flight", 'sum(evenkeel_mesh_calls_in_flight{service=~"$service"})'),
        ("calls timed out/s", 'sum(rate(evenkeel_mesh_calls_timed_out_total{service=~"$service"}[$__rate_interval]))'),
    ]),
]

DASHBOARDS = {
    "table": ("Is my table all right?", [
        ("Availability (share of requests that did not fail)", "percentunit", [
            ("{{class}}", '1 - sum by (class) (rate(evenkeel_router_table_requests_total{table="$table",outcome="server_error"}[$__rate_interval])) / sum by (class) (rate(evenkeel_router_table_requests_total{table="$table"}[$__rate_interval]))'),
        ]),
        ("Requests", "reqps", [("{{class}} {{outcome}}", rate("evenkeel_router_table_requests_total", "class, outcome", 'table="$table"'))]),
        ("Latency", "s", [
            ("p50 {{class}}", 'histogram_quantile(0.5, sum by (class, le) (rate(evenkeel_router_table_request_seconds_bucket{table="$table"}[$__rate_interval])))'),
            ("p99 {{class}}", 'histogram_quantile(0.99, sum by (class, le) (rate(evenkeel_router_table_request_seconds_bucket{table="$table"}[$__rate_interval])))'),
        ]),
        ("Throttled", "percentunit", [
            ("{{class}}", 'sum by (class) (rate(evenkeel_router_table_requests_total{table="$table",outcome="throttled"}[$__rate_interval])) / sum by (class) (rate(evenkeel_router_table_requests_total{table="$table"}[$__rate_interval]))'),
        ]),
        ("As the canaries count it, five minutes", "percentunit", [("{{class}}", 'min by (class) (evenkeel_canary_availability_ratio{scope="table",subject="$table"})')]),
        ("Alarms that stand", "short", [("{{kind}} {{severity}}", "max by (kind, severity) (evenkeel_canary_alarms)")]),
    ]),
    "router": ("Routers", [
        ("Requests by operation", "reqps", [("{{operation}}", rate("evenkeel_router_requests_total", "operation"))]),
        ("Errors by outcome", "reqps", [("{{outcome}}", rate("evenkeel_router_requests_total", "outcome", 'outcome!="ok"'))]),
        ("Latency p99 by operation", "s", [("{{operation}}", quantile(0.99, "evenkeel_router_request_seconds", "operation"))]),
        ("Throttled by reason", "reqps", [("{{reason}}", rate("evenkeel_router_throttled_total", "reason"))]),
        ("Routes: hit rate", "percentunit", [("hits", "sum(rate(evenkeel_router_routes_hits_total[$__rate_interval])) / (sum(rate(evenkeel_router_routes_hits_total[$__rate_interval])) + sum(rate(evenkeel_router_routes_misses_total[$__rate_interval])))")]),
        ("Lookups sent to memds", "ops", [("lookups", "sum(rate(evenkeel_router_routes_lookups_total[$__rate_interval]))"), ("dropped", "sum(rate(evenkeel_router_routes_lookups_dropped_total[$__rate_interval]))")]),
        ("Requests being worked on", "short", [("{{instance}}", "evenkeel_router_requests_in_flight")]),
        ("GAC instances heard, refused units", "short", [("GAC instances", "min(evenkeel_router_tokens_gac_instances)"), ("reads refused/s", "sum(rate(evenkeel_router_tokens_reads_refused_total[$__rate_interval]))"), ("writes refused/s", "sum(rate(evenkeel_router_tokens_writes_refused_total[$__rate_interval]))")]),
    ]),
    "storage": ("Storage nodes", [
        ("Replicas, leaders, leases", "short", [("replicas {{node}}", "evenkeel_storage_replicas"), ("leading {{node}}", "evenkeel_storage_leading"), ("leases {{node}}", "evenkeel_storage_leases_held")]),
        ("Replicas with which something is wrong", "short", [("unhealthy {{node}}", "evenkeel_storage_unhealthy_replicas"), ("copying {{node}}", "evenkeel_storage_copying_replicas"), ("fenced {{node}}", "evenkeel_storage_fenced_replicas")]),
        ("Elections", "ops", [("started {{node}}", rate("evenkeel_storage_elections_started_total", "node")), ("won {{node}}", rate("evenkeel_storage_elections_won_total", "node"))]),
        ("Lag, entries", "short", [("replication {{node}}", "evenkeel_storage_replication_lag_entries"), ("apply {{node}}", "evenkeel_storage_apply_lag_entries")]),
        ("Write and sync of the log, p50 and p99", "s", [("p50 {{node}}", quantile(0.5, "evenkeel_storage_wal_sync_seconds", "node")), ("p99 {{node}}", quantile(0.99, "evenkeel_storage_wal_sync_seconds", "node"))]),
        ("Queues", "short", [("requests held {{node}}", "evenkeel_storage_requests_held"), ("log {{node}}", "evenkeel_storage_wal_queue"), ("flushes {{node}}", "evenkeel_storage_flush_queue")]),
        ("Requests", "ops", [("strong reads", "sum(rate(evenkeel_storage_strong_reads_total[$__rate_interval]))"), ("eventual reads", "sum(rate(evenkeel_storage_eventual_reads_total[$__rate_interval]))"), ("commands", "sum(rate(evenkeel_storage_proposals_total[$__rate_interval]))"), ("pages", "sum(rate(evenkeel_storage_pages_total[$__rate_interval]))")]),
        ("Refused and dropped", "ops", [("throttled reads", "sum(rate(evenkeel_storage_throttled_reads_total[$__rate_interval]))"), ("throttled writes", "sum(rate(evenkeel_storage_throttled_writes_total[$__rate_interval]))"), ("shed", "sum(rate(evenkeel_storage_shed_requests_total[$__rate_interval]))"), ("messages dropped", "sum(rate(evenkeel_storage_dropped_messages_total[$__rate_interval]))")]),
        ("Disk and log", "bytes", [("free {{node}}", "evenkeel_storage_disk_free_bytes"), ("log {{node}}", "evenkeel_storage_wal_segment_bytes"), ("overlay {{node}}", "evenkeel_storage_overlay_bytes")]),
        ("Global indexes: lag", "s", [("{{node}}", "evenkeel_storage_index_lag_seconds")]),
        ("Global indexes: runs of changes", "ops", [("taken {{node}}", rate("evenkeel_storage_index_runs_total", "node")), ("not taken {{node}}", rate("evenkeel_storage_index_failures_total", "node"))]),
        ("Expired items, change records cut", "ops", [("expired {{node}}", rate("evenkeel_storage_expired_items_total", "node")), ("cut {{node}}", rate("evenkeel_storage_change_records_cut_total", "node"))]),
        ("Flush and archive lag", "s", [("flush {{node}}", "evenkeel_storage_flush_lag_seconds"), ("archive {{node}}", "evenkeel_storage_unarchived_age_seconds")]),
    ]),
    "memds": ("MemDS", [
        ("Lookups by answer", "ops", [("{{answer}}", rate("evenkeel_memds_lookups_total", "answer"))]),
        ("Partitions and tables in the map", "short", [("partitions {{instance}}", "evenkeel_memds_partitions"), ("tables {{instance}}", "evenkeel_memds_tables")]),
        ("Memory of the map", "bytes", [("{{instance}}", "evenkeel_memds_bytes")]),
        ("Pushes taken in, entries repaired", "ops", [("pushes {{instance}}", rate("evenkeel_memds_pushes_total", "instance")), ("repaired {{instance}}", rate("evenkeel_memds_repaired_total", "instance"))]),
    ]),
    "gac": ("Global admission control", [
        ("Token requests answered", "ops", [("{{instance}}", rate("evenkeel_gac_answered_total", "instance"))]),
        ("Read units a second", "short", [("wanted", "sum(evenkeel_gac_read_demand_units)"), ("handed out", "sum(evenkeel_gac_read_share_units)"), ("owed", "sum(evenkeel_gac_read_debt_units)")]),
        ("Write units a second", "short", [("wanted", "sum(evenkeel_gac_write_demand_units)"), ("handed out", "sum(evenkeel_gac_write_share_units)"), ("owed", "sum(evenkeel_gac_write_debt_units)")]),
        ("Tables and instances", "short", [("tables {{instance}}", "evenkeel_gac_tables"), ("instances seen by {{instance}}", "evenkeel_gac_instances")]),
    ]),
    "archiver": ("Archivers", [
        ("Lag", "s", [("{{instance}}", "evenkeel_archiver_lag_seconds")]),
        ("Not archived", "bytes", [("{{instance}}", "evenkeel_archiver_unarchived_bytes")]),
        ("Segments and snapshots", "ops", [("segments", "sum(rate(evenkeel_archiver_segments_total[$__rate_interval]))"), ("snapshots", "sum(rate(evenkeel_archiver_snapshots_total[$__rate_interval]))")]),
        ("Errors", "ops", [("store", "sum(rate(evenkeel_archiver_errors_store_total[$__rate_interval]))"), ("source", "sum(rate(evenkeel_archiver_errors_source_total[$__rate_interval]))"), ("contradiction", "sum(rate(evenkeel_archiver_errors_contradiction_total[$__rate_interval]))")]),
    ]),
    "scrubber": ("Scrubber", [
        ("Age of the oldest clean partition", "s", [("age", "max(evenkeel_scrubber_oldest_clean_age_seconds)")]),
        ("Partitions", "short", [("all", "max(evenkeel_scrubber_partitions)"), ("never clean", "max(evenkeel_scrubber_partitions_never_clean)"), ("with findings", "max(evenkeel_scrubber_partitions_with_findings)")]),
        ("Scrubs", "ops", [("done", "sum(rate(evenkeel_scrubber_scrubs_total[$__rate_interval]))"), ("clean", "sum(rate(evenkeel_scrubber_clean_total[$__rate_interval]))"), ("void", "sum(rate(evenkeel_scrubber_void_total[$__rate_interval]))")]),
        ("Digested", "Bps", [("bytes", "sum(rate(evenkeel_scrubber_digested_bytes_total[$__rate_interval]))")]),
        ("Global indexes", "short", [("all", "max(evenkeel_scrubber_indexes)"), ("that differ from their tables", "max(evenkeel_scrubber_indexes_with_findings)")]),
    ]),
    "admin": ("Control plane", [
        ("Who gives the orders", "short", [("{{instance}}", "evenkeel_admin_active")]),
        ("Nodes", "short", [("dead", "max(evenkeel_admin_nodes_dead)"), ("slow", "max(evenkeel_admin_nodes_slow)"), ("draining", "max(evenkeel_admin_nodes_draining)"), ("pressed", "max(evenkeel_admin_nodes_pressed)")]),
        ("Healing", "short", [("endangered partitions", "max(evenkeel_admin_partitions_endangered)"), ("replacements wanted", "max(evenkeel_admin_replacements_wanted)"), ("running", "max(evenkeel_admin_replacements_running)")]),
        ("Splits", "short", [("running", "max(evenkeel_admin_splits_running)"), ("waiting", "max(evenkeel_admin_splits_waiting)"), ("done/s", "sum(rate(evenkeel_admin_splits_done_total[$__rate_interval]))")]),
    ]),
    "canary": ("Canaries", [
        ("Availability, five minutes", "percentunit", [("{{subject}} {{class}}", 'min by (subject, class) (evenkeel_canary_availability_ratio{scope=~"canary|service"})')]),
        ("Probes by zone and outcome", "ops", [("{{zone}} {{outcome}}", rate("evenkeel_canary_probes_total", "zone, outcome"))]),
        ("Probe latency p99", "s", [("{{class}}", quantile(0.99, "evenkeel_canary_probe_seconds", "class"))]),
        ("Endpoints that answer", "short", [("{{zone}} {{url}}", "max by (zone, url) (evenkeel_canary_endpoint_up)")]),
        ("Alarms that stand", "short", [("{{kind}} {{severity}}", "max by (kind, severity) (evenkeel_canary_alarms)")]),
        ("Webhook", "ops", [("posts", "sum(rate(evenkeel_canary_webhook_posts_total[$__rate_interval]))"), ("failures", "sum(rate(evenkeel_canary_webhook_failures_total[$__rate_interval]))")]),
    ]),
}


def variable(name, query):
    return {"name": name, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"}, "query": query,
            "refresh": 2, "sort": 1, "includeAll": False}


def panel(number, title, unit, queries):
    return {
        "id": number + 1, "title": title, "type": "timeseries",
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(queries)
        ],
    }


def dashboard(name):
    title, panels = DASHBOARDS[name]
    variables = [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
    if name == "table":
        variables.append(variable("table", "label_values(evenkeel_router_table_requests_total, table)"))
    else:
        variables.append({"name": "service", "type": "constant", "query": name})
        panels = panels + MESH
    return {
        "uid": f"evenkeel-{name}", "title": f"Evenkeel: {title}", "tags": ["evenkeel"], "schemaVersion": 39, "editable": True,
        "time": {"from": "now-3h", "to": "now"}, "refresh": "30s", "templating": {"list": variables},
        "panels": [panel(number, *one) for number, one in enumerate(panels)],
    }


def written(name):
    return json.dumps(dashboard(name), indent=1) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for each in DASHBOARDS:
        (folder / f"{each}.json").write_text(written(each))
