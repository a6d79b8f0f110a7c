// Package console owns the pages that people see in a browser.
//
// A page is a client of the REST API: its handler calls the API in this process, as the person who looks at it, with
// the client that the CLI has. So rights, what somebody may see, validation and audit are the API's alone, and the
// console can do nothing that the API cannot. What the API says of a member, by JSON pointer, is shown beside the form's
// field of that name.
//
// It must never show what takes a sign-in to who has not signed in, decide who may do what, or keep state of its own.
// Templates are handed view structs made for them; styles and scripts come from files, so that the content security
// policy allows nothing inline. Every page works without scripts; htmx makes some of them better.
package console
