//! Upload forms, with good tickets and bad ones: fields, order, boundaries, ends.

use super::{Target, tokens};
use crate::dice::Dice;
use crate::http::storm;
use crate::mutate::mutate;
use crate::world::{World, said, upload_form};
use crate::{Broken, check, corpus, http, shown};

/// Inputs before the ticket is a new one.
const TICKET_EVERY: u32 = 200;

/// The target.
pub struct Upload {
    world: World,
    tokens: Vec<Vec<u8>>,
    since_ticket: u32,
}

impl Upload {
    pub fn new() -> Result<Self, Broken> {
        let tokens = tokens(&[
            "--edge\\r\\n",
            "--edge--\\r\\n",
            "\\r\\n--edge\\r\\nContent-Disposition: form-data; name=\"file\"\\r\\n\\r\\n",
            "Content-Disposition: form-data; name=\"key\"\\r\\n\\r\\n",
            "; filename=\"f\"",
            "; filename*=UTF-8''%ff",
            "Content-Type: text/plain\\r\\n",
            "Content-Transfer-Encoding: base64\\r\\n",
            "boundary=",
            "\"",
            "{key}",
            "{policy}",
            "{access}",
            "{signature}",
            "{length}",
            "success_action_status",
            "\\r\\n\\r\\n",
            "--",
            "Transfer-Encoding: chunked\\r\\n",
        ]);
        Ok(Self { world: World::start()?, tokens, since_ticket: 0 })
    }
}

impl Target for Upload {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let text = include_str!("../../corpus/upload.txt");
        let mut all = vec![upload_form(b"firmware image"), upload_form(b""), upload_form(&[0; 5_000])];
        all.extend(corpus::blocks(text).iter().map(|lines| corpus::bytes(&lines.concat())));
        all
    }

    fn mutate(&self, dice: &mut Dice, entry: &[u8], other: &[u8]) -> Vec<u8> {
        // Mostly the request's head stays good: the form is what is tried here.
        let head = http::find(entry, b"\r\n\r\n").map_or(0, |at| at + 4);
        if dice.once_in(5) {
            return mutate(dice, entry, other, &self.tokens);
        }
        let mut bytes = entry[..head].to_vec();
        bytes.extend(mutate(dice, &entry[head..], other, &self.tokens));
        bytes
    }

    fn attempt(&mut self, input: &[u8]) -> Result<String, Broken> {
        self.since_ticket += 1;
        if self.since_ticket >= TICKET_EVERY {
            self.since_ticket = 0;
            self.world.things.ticket = self.world.ok("GenerateOTAUploadURL", &[])?;
        }
        let ticket = self.world.things.ticket.clone();
        let bytes = self.world.place(input, &ticket);
        let answers = storm(self.world.api, &bytes)?;
        let Some(answer) = answers.first() else { return Ok("closed".to_owned()) };
        if matches!(answer.status, 201 | 204) {
            let key = said(&ticket, "/Data/Key");
            let sql = "SELECT COUNT(*) FROM file WHERE object_key = ?1 AND blob IS NOT NULL";
            let kept: i64 = self
                .world
                .eye
                .query_row(sql, [&key], |row| row.get(0))
                .map_err(|error| Broken::new("the database cannot be read", error))?;
            if kept != 1 {
                return Err(Broken::new("an acknowledged upload is not there", shown(&bytes)));
            }
        }
        let class = super::http::judge(answer)?;
        if answer.header("x-acs-request-id").is_some() {
            // Not an upload any more; what calls answer is another target's to tell apart.
            return Ok("a call".to_owned());
        }
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let code = text.split("<Code>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default();
        if answer.status >= 400 && text.contains("<Error>") && !text.contains("<RequestId>") {
            return Err(Broken::new("an answer has no RequestId", text));
        }
        Ok(format!("{class} {code}"))
    }

    fn check(&mut self) -> Result<(), Broken> {
        self.world.check()?;
        check::blobs(&self.world.eye, &self.world.blobs)
    }

    fn renew(&mut self) -> Result<(), Broken> {
        self.world = World::start()?;
        Ok(())
    }
}
