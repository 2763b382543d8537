package main

import (
	"fmt"
	"net"
	"runtime"
)

const (
	connections  = 64
	messageBytes = 64
	bufferBytes  = 4096
)

func echo(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, bufferBytes)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func startServer() net.Addr {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	check(err)
	go func() {
		for {
			conn, err := listener.Accept()
			check(err)
			go echo(conn)
		}
	}()
	return listener.Addr()
}

var clients []net.Conn

func ask(conn net.Conn, n int) {
	message, buffer := make([]byte, messageBytes), make([]byte, bufferBytes)
	for range n {
		_, err := conn.Write(message)
		check(err)
		for got := 0; got < messageBytes; {
			more, err := conn.Read(buffer)
			check(err)
			got += more
		}
	}
	wg.Done()
}

func runEcho64(n int) {
	if clients == nil {
		address := startServer()
		for range connections {
			conn, err := net.Dial("tcp4", address.String()) // Go sets TCP_NODELAY by itself
			check(err)
			clients = append(clients, conn)
		}
	}
	wg.Add(connections)
	for i, conn := range clients {
		go ask(conn, share(n, connections, i))
	}
	wg.Wait()
}

func serveBlocked(perP int) {
	address := startServer().(*net.TCPAddr)
	for range perP * runtime.GOMAXPROCS(0) {
		go block()
	}
	fmt.Println(address.Port)
	select {}
}
