
Mcontrib/envoy/extensions/router/cluster_specifier/golang/v3alpha/golang.proto8envoy.extensions.router.cluster_specifier.golang.v3alphagoogle/protobuf/any.protoxds/annotations/v3/status.protoudpa/annotations/status.protovalidate/validate.proto"¼
Config&

library_id (	BúBrR	libraryId*
library_path (	BúBrRlibraryPath0
default_cluster (	BúBrRdefaultCluster,
config (2.google.protobuf.AnyRconfigBÐº€ÈÑÒÆ¤á
Fio.envoyproxy.envoy.extensions.router.cluster_specifier.golang.v3alphaBGolangProtoPZggithub.com/envoyproxy/go-control-plane/contrib/envoy/extensions/router/cluster_specifier/golang/v3alphabproto3