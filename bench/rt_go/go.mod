module sluice.dev/bench/rt_go

go 1.22
