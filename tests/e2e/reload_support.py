"""A proxy whose configuration is changed while it serves."""

import json
import urllib.error
import urllib.request

from harness import Proxy


class Live(Proxy):
    def write(self, config):
        self.config_path.write_text(config if isinstance(config, str) else json.dumps(config, indent=1))

    def ask_to_reload(self):
        """{status, what it says}"""
        url = f"http://{self.admin_path.read_text()}/config/reload"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def change(self, config):
        """It is taken. What changed, as the answer says it."""
        self.write(config)
        status, said = self.ask_to_reload()
        assert status == 200, said
        self.ports = self._ports()
        return said

    def refuse(self, config):
        """It is refused. Why."""
        self.write(config)
        status, said = self.ask_to_reload()
        assert status == 400, said
        return said

    def versions(self):
        """Configurations that were tried, the latest first."""
        for part in json.loads(self.admin("/config_dump"))["configs"]:
            if part["@type"].endswith("ConfigVersionsDump"):
                return part["versions"]
        raise AssertionError("/config_dump has no versions")
