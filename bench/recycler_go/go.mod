module sluice.dev/bench/recycler_go

go 1.22
