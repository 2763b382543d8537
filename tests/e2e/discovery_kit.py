"""Files that listeners, clusters and routes come from."""

import json
import os

from harness import TYPE, address, listener

LISTENER = TYPE + "envoy.config.listener.v3.Listener"
CLUSTER = TYPE + "envoy.config.cluster.v3.Cluster"
ROUTES = TYPE + "envoy.config.route.v3.RouteConfiguration"


def response(type_url, resources, version=None):
    """A DiscoveryResponse, as a file has it."""
    said = {"resources": [{"@type": type_url, **resource} for resource in resources]}
    if version is not None:
        said["version_info"] = version
    return json.dumps(said, indent=1)


def route_configuration(name, routes, **more):
    return {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}], **more}


class Files:
    """lds.yaml, cds.yaml and rds.yaml in a folder. Each change is a rename over the file."""

    def __init__(self, folder):
        self.folder = folder

    def source(self, name):
        return {"path_config_source": {"path": str(self.folder / name)}, "resource_api_version": "V3"}

    def put(self, name, text):
        following = self.folder / f".{name}.next"
        following.write_text(text)
        os.rename(following, self.folder / name)

    def listeners(self, *listeners, version=None):
        self.put("lds.yaml", response(LISTENER, listeners, version))

    def clusters(self, *clusters, version=None):
        self.put("cds.yaml", response(CLUSTER, clusters, version))

    def routes(self, *configurations, version=None):
        self.put("rds.yaml", response(ROUTES, configurations, version))

    def asking(self, name, routes, **more):
        """A listener whose routes are in rds.yaml."""
        made = listener(name, [], **more)
        manager = made["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["route_config"]
        manager["rds"] = {"route_config_name": routes, "config_source": self.source("rds.yaml")}
        return made

    def bootstrap(self, **more):
        return {
            "node": {"id": "here", "cluster": "tests"},  # without which Envoy takes no discovery
            "admin": {"address": address(0)},
            "dynamic_resources": {"lds_config": self.source("lds.yaml"), "cds_config": self.source("cds.yaml")},
            **more,
        }


def dump_of(proxy, kind):
    """The part of /config_dump: "Listeners", "Clusters" or "Routes"."""
    wanted = f"type.googleapis.com/envoy.admin.v3.{kind}ConfigDump"
    configs = json.loads(proxy.admin("/config_dump"))["configs"]
    return next(config for config in configs if config["@type"] == wanted)


def refusals(proxy):
    """What /config_dump says of files that are not taken."""
    return [
        item["error_state"]
        for kind, items in (
            ("Listeners", "dynamic_listeners"),
            ("Clusters", "dynamic_active_clusters"),
            ("Routes", "dynamic_route_configs"),
        )
        for item in dump_of(proxy, kind).get(items, [])
        if "error_state" in item
    ]
