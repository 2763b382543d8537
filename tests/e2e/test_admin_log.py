"""Requests to the admin are logged where the bootstrap says."""

from harness import access_log, bootstrap, direct, eventually, listener


def test_the_admin_writes_the_access_log_it_is_given(proxy, tmp_path):
    path = tmp_path / "admin.log"
    config = bootstrap([listener("edge", [direct(200)])])
    config["admin"]["access_log"] = [
        access_log(path, text_format_source={"inline_string": "%REQ(:PATH)% %RESPONSE_CODE%\n"})
    ]
    edge = proxy(None, config=config)
    edge.admin("/server_info")
    eventually(
        lambda: path.exists() and "/server_info 200\n" in path.read_text(),
        what="the admin's access log line",
    )
