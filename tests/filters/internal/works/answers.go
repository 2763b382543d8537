// Package works has plugins that call everything which the SDK offers and note what came of it, for the table
// in docs/go-sdk.md. What is called goes by the SDK's own types: a method's name is looked up in the interface,
// and counts only if it was called.
package works

import (
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

const sdk = "github.com/envoyproxy/envoy/contrib/golang/"

var (
	lock    sync.Mutex
	answers = map[string][]string{} // what each gave, different ones only: "WHERE|PACKAGE.Interface.Method"
)

// Answer is what one call gave.
type Answer struct {
	key  string
	text string
}

// Ask calls a method of an interface, unless this SDK's has none of that name. Where is a word for interfaces that
// are there in several places.
func Ask[I any](where string, on I, method string, arguments ...interface{}) {
	if answer := AskQuietly(where, on, method, arguments...); answer != nil {
		answer.Is(answer.text)
	}
}

// AskQuietly leaves it to the caller to say what came of it.
func AskQuietly[I any](where string, on I, method string, arguments ...interface{}) *Answer {
	of := reflect.TypeFor[I]()
	if _, offered := of.MethodByName(method); !offered {
		return nil
	}
	function := reflect.ValueOf(&on).Elem().MethodByName(method)
	return &Answer{key(where, of, method), call(function, arguments)}
}

// Call calls a function of the SDK.
func Call(function interface{}, arguments ...interface{}) {
	value := reflect.ValueOf(function)
	name := runtime.FuncForPC(value.Pointer()).Name()
	answer := Answer{"|" + strings.TrimPrefix(name, sdk), call(value, arguments)}
	answer.Is(answer.text)
}

// Told is for the methods that the proxy calls: the one that this is called in.
func Told[I any](format string, arguments ...interface{}) {
	pc, _, _, _ := runtime.Caller(1)
	caller := runtime.FuncForPC(pc).Name()
	Did[I](caller[strings.LastIndexByte(caller, '.')+1:], format, arguments...)
}

// Did is for what can only be called by name. A type of functions has one method without a name.
func Did[I any](method, format string, arguments ...interface{}) {
	of := reflect.TypeFor[I]()
	if of.Kind() == reflect.Interface {
		if _, offered := of.MethodByName(method); !offered {
			panic("no method " + method + " in " + of.String())
		}
	}
	(&Answer{key: key("", of, method)}).Is(format, arguments...)
}

// Is notes the answer.
func (a *Answer) Is(format string, arguments ...interface{}) {
	if a == nil {
		return
	}
	text := format
	if len(arguments) > 0 {
		text = fmt.Sprintf(format, arguments...)
	}
	lock.Lock()
	defer lock.Unlock()
	for _, known := range answers[a.key] {
		if known == text {
			return
		}
	}
	answers[a.key] = append(answers[a.key], text)
}

func key(where string, of reflect.Type, method string) string {
	return where + "|" + strings.TrimPrefix(of.PkgPath(), sdk) + "." + of.Name() + "." + method
}

func call(function reflect.Value, arguments []interface{}) (text string) {
	defer func() {
		if e := recover(); e != nil {
			text = fmt.Sprint("panic: ", e)
		}
	}()
	var in []reflect.Value
	for i, argument := range arguments {
		value := reflect.ValueOf(argument)
		if !function.Type().IsVariadic() || i < function.Type().NumIn()-1 {
			value = value.Convert(function.Type().In(i))
		}
		in = append(in, value)
	}
	var results []string
	for _, result := range function.Call(in) {
		results = append(results, show(result))
	}
	return strings.Join(results, ", ")
}

func show(value reflect.Value) string {
	switch value.Kind() {
	case reflect.String:
		return strconv.Quote(value.String())
	case reflect.Interface, reflect.Pointer:
		if value.IsNil() {
			return "nil"
		}
		if err, is := value.Interface().(error); is {
			return err.Error()
		}
		return "given"
	case reflect.Slice, reflect.Map:
		return fmt.Sprintf("%q", value.Interface())
	}
	return fmt.Sprint(value.Interface())
}

// Answers is a copy of them all.
func Answers() map[string][]string {
	lock.Lock()
	defer lock.Unlock()
	copied := map[string][]string{}
	for name, texts := range answers {
		copied[name] = append([]string{}, texts...)
	}
	return copied
}
