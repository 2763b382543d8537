module example.test/peers

go 1.22
