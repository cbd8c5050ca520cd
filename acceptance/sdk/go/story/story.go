// Package story has what both programs share: the environment, the upload, and what is printed.
package story

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
)

// What the tests give to the programs.
var (
	Endpoint  = os.Getenv("SDK_ENDPOINT")
	Protocol  = os.Getenv("SDK_PROTOCOL")
	KeyID     = os.Getenv("SDK_KEY_ID")
	KeySecret = os.Getenv("SDK_KEY_SECRET")
	Name      = os.Getenv("SDK_NAME")
)

// Description is a text that tries the encoding.
const Description = "a b*~/+é'!() 说明"

// Tags of the static batch.
var Tags = [][2]string{{"ring", "1 + 1 = 2 & more"}, {"owner", "我"}}

// Refusal is what an SDK made of one.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Thrown  bool   `json:"thrown"`
}

// Seen is what the program prints.
type Seen struct {
	Product     string      `json:"product"`
	Device      string      `json:"device"`
	Firmware    string      `json:"firmware"`
	Static      string      `json:"static"`
	Dynamic     string      `json:"dynamic"`
	Total       int         `json:"total"`
	Jobs        []string    `json:"jobs"`
	Tags        [][2]string `json:"tags"`
	Tasks       []string    `json:"tasks"`
	Description string      `json:"description"`
	Business    Refusal     `json:"business"`
	UnknownKey  Refusal     `json:"unknown_key"`
	WrongSecret Refusal     `json:"wrong_secret"`
}

// Print ends the program with what it saw.
func (seen Seen) Print() {
	text, err := json.Marshal(seen)
	Must(err)
	fmt.Println(string(text))
}

// Must ends the program unless err is nil.
func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Expect ends the program unless a call succeeded.
func Expect(success bool, code, message string) {
	if !success || code != "" {
		Must(fmt.Errorf("%s: %s", code, message))
	}
}

// Ticket is what GenerateOTAUploadURL gives.
type Ticket struct{ Host, Key, Policy, OSSAccessKeyId, Signature, FirmwareUrl string }

// Upload posts the package with a ticket, as the page's sample does.
func Upload(ticket Ticket) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, field := range [][2]string{
		{"key", ticket.Key},
		{"policy", ticket.Policy},
		{"OSSAccessKeyId", ticket.OSSAccessKeyId},
		{"signature", ticket.Signature},
		{"success_action_status", "200"},
	} {
		Must(form.WriteField(field[0], field[1]))
	}
	file, err := form.CreateFormFile("file", "package.bin")
	Must(err)
	_, err = file.Write([]byte("a package"))
	Must(err)
	Must(form.Close())
	answer, err := http.Post(ticket.Host, form.FormDataContentType(), &body)
	Must(err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		Must(fmt.Errorf("the upload was answered %d: %s", answer.StatusCode, text))
	}
}
