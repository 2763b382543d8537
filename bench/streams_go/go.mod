module sluice.dev/bench/streams_go

go 1.22
