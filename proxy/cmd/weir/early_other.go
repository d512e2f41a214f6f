//go:build !linux

package main

func callEarly() {}
