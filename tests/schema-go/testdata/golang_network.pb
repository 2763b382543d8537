
Dcontrib/envoy/extensions/filters/network/golang/v3alpha/golang.proto/envoy.extensions.filters.network.golang.v3alphagoogle/protobuf/any.protoxds/annotations/v3/status.protoudpa/annotations/status.protovalidate/validate.proto"ï
Config,
is_terminal_filter (RisTerminalFilter&

library_id (	BúBrR	libraryId*
library_path (	BúBrRlibraryPath(
plugin_name (	BúBrR
pluginName9
plugin_config (2.google.protobuf.AnyRpluginConfigB¾º€ÈÑÒÆ¤á
=io.envoyproxy.envoy.extensions.filters.network.golang.v3alphaBGolangProtoPZ^github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/network/golang/v3alphabproto3